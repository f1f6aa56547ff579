"""What a second worker takes of memory beside the first.

    python -m benchmarks.memory [rounds]

The proportional set size of all processes of the service: of a page that several have, each has
its share. It is read behind 20 requests, each by a connection of its own, so that both workers have
answered.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.llm_servers import our_llm
from benchmarks.results import Record, recording
from benchmarks.servers import KEY, REQUEST, Server, ours, started

PARSER = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
PARSER.add_argument("rounds", type=int, nargs="?", default=3)

_REQUESTS = 20
_FILES = "ml.workflows.inference.model_file_inference_workflow.ModelFileInferenceWorkflow"


def main() -> None:
    """Print a row for each way to load a model."""
    options = PARSER.parse_args()
    with tempfile.TemporaryDirectory() as name, recording("memory") as record:
        from benchmarks.large_model import save_large_models  # brings torch

        folder = Path(name)
        save_large_models(folder)
        (folder / "request.json").write_bytes(REQUEST.read_bytes().replace(b'"double"', b'"float"'))
        _measure(record, folder, options.rounds)


def _measure(record: Record, folder: Path, rounds: int) -> None:
    table = record.table("model", "one worker", "two workers", "two / one")
    for name, new in _services(folder).items():
        one, two = ([_megabytes(new, n) for _ in range(rounds)] for n in (1, 2))
        sizes = (Figure.of(*taken, places=0, unit="MB") for taken in (one, two))
        table.row(name, *sizes, Figure.ratio(two, one))


def _services(folder: Path) -> dict[str, Callable[..., Server]]:
    """Return what makes each service with a number of workers, by the name of its row."""
    torch = partial(ours, "torch", body=folder / "request.json")
    other = partial(ours, "another library", body=folder / "request.json", workflow_class=_FILES)
    saved, onnx = {"path": str(folder / "model.torch")}, {"path": str(folder / "model.onnx")}
    weights = {
        "path": str(folder / "model.safetensors"),
        "model_class": "benchmarks.large_model.large_model",
    }
    return {
        "torch, safetensors": partial(torch, model=weights),
        "torch, mmap": partial(torch, model={**saved, "mmap": True}),
        "torch, copied": partial(torch, model=saved),
        "ONNX, mmap": partial(other, model={**onnx, "mmap": True}),
        "ONNX, copied": partial(other, model=onnx),
        "OpenVINO": partial(other, model={**onnx, "engine": "openvino"}),
        "language model, openvino": partial(our_llm, "openvino", engine="openvino"),
        "language model, transformers": partial(our_llm, "transformers", engine="transformers"),
    }


def _megabytes(new: Callable[..., Server], workers: int) -> float:
    server = new(workers=workers)
    with started(server):
        server.wait_until_it_answers()
        while not _are_ready(server, workers):
            time.sleep(0.1)
        for _ in range(_REQUESTS):
            server.ask()
        return server.megabytes()


def _are_ready(server: Server, workers: int) -> bool:
    address, key = f"http://127.0.0.1:{server.port}/metrics", {"Authorization": f"Bearer {KEY}"}
    with urllib.request.urlopen(urllib.request.Request(address, headers=key)) as reply:
        return f"workflow_ready {workers:.1f}" in reply.read().decode()


if __name__ == "__main__":
    main()
