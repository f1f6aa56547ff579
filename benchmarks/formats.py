"""Models of other libraries: our service, and a bare Quart handler that calls the library."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import xgboost
from torch import nn

from benchmarks.measure import ratios, rounds
from benchmarks.results import Record
from benchmarks.servers import PEERS, REQUEST, Server, free_port, ours, running

__all__ = ["formats"]

CONNECTIONS = (1, 32)
WIDTH = 69


def formats(record: Record, count: int, seconds: float) -> None:
    """Compare in turns: 69 floats through keys, validation and metrics; the peer does without."""
    table = record.table("ours / bare Quart", "requests per second", "server CPU per request")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = folder / "request.json"
        body.write_bytes(REQUEST.read_bytes().replace(b'"double"', b'"float"'))
        for form, file in (("ONNX", _onnx(folder)), ("XGBoost", _xgboost(folder))):
            with running(_ours(file, body), _bare(file, body)) as servers:
                runs = rounds(servers, connections=CONNECTIONS, seconds=seconds, count=count)
            own, bare = (server.name for server in servers)
            for c in CONNECTIONS:
                table.row(f"{form}, c={c}", *ratios(runs[own, c], runs[bare, c]))


def _ours(file: Path, body: Path) -> Server:
    return ours(
        f"ours, {file.suffix}",
        model={"path": str(file)},
        body=body,
        workflow_class=(
            "ml.workflows.inference.model_file_inference_workflow.ModelFileInferenceWorkflow"
        ),
        log_requests=False,
    )


def _bare(file: Path, body: Path) -> Server:
    port = free_port()
    command = [sys.executable, str(PEERS / "bare_formats.py"), str(port), str(file)]
    return Server(f"bare Quart, {file.suffix}", command, port, body)


def _onnx(folder: Path) -> Path:
    layers = nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, 2), nn.Softmax(-1)
    file = folder / "model.onnx"
    torch.onnx.export(
        nn.Sequential(*layers),
        (torch.zeros(1, WIDTH),),
        file,
        dynamo=False,
        opset_version=17,
        input_names=["values"],
        output_names=["output"],
        dynamic_axes={"values": {0: "rows"}, "output": {0: "rows"}},
    )
    return file


def _xgboost(folder: Path) -> Path:
    """Write two classes' probabilities by a hundred trees each."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((2000, WIDTH)).astype(np.float32)
    labels = (values[:, :3].sum(axis=1) > 0).astype(np.int64)
    options = {"objective": "multi:softprob", "num_class": 2, "max_depth": 4, "nthread": 1}
    data = xgboost.DMatrix(values, labels)
    file = folder / "model.ubj"
    xgboost.train(options, data, num_boost_round=100).save_model(file)
    return file
