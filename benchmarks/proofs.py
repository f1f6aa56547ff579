"""What the proof service costs beside bare ezkl, for circuits of several sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.figures import Figure
from benchmarks.results import Record, Table
from benchmarks.servers import KEY, PEERS, ROOT, SERVE, Server, free_port
from ml.models.built_in import built_in_path
from ml.proving.building import BuildRequest, build
from ml.proving.manifest import Manifest, Visibilities
from ml.proving.srs import SrsSource

__all__ = ["proofs"]

PROOFS = 4  # in a turn


@dataclass(frozen=True)
class Cost:
    """Of one proof: seconds, and the most memory that its process held."""

    cpu: float
    wall: float
    memory_mb: float


def proofs(record: Record, count: int) -> None:
    """Measure the cost of a proof, service and bare ezkl in turns, for each circuit."""
    bare = ("bare: CPU", "wall", "memory")
    service = ("service: CPU", "its wall", "its memory", "CPU, service / bare")
    table = record.table("circuit", "rows", "proving key", *bare, *service)
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models().items():
            artifact = build_artifact(name, model, Path(folder))
            _compare(table, Path(folder, name), artifact, count)


def models() -> dict[str, nn.Sequential]:
    """Return the models by name, small ones first."""
    torch.manual_seed(0)
    iris = torch.load(built_in_path("iris"), weights_only=False)[:-1]
    return {
        "iris": iris,
        "mlp-69-16-2": nn.Sequential(nn.Linear(69, 16), nn.ReLU(), nn.Linear(16, 2)),
        "mlp-69-128-2": nn.Sequential(nn.Linear(69, 128), nn.ReLU(), nn.Linear(128, 2)),
        "mlp-256-128-10": nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)),
    }


def build_artifact(name: str, model: nn.Sequential, folder: Path) -> Manifest:
    """Build an artifact into `folder/name`, over an SRS made here."""
    width = model[0].in_features
    onnx = folder / f"{name}.onnx"
    rows = torch.rand(4, width, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        torch.onnx.export(model, (rows[:1],), onnx, dynamo=False, opset_version=17)
    calibration = folder / f"{name}.json"
    calibration.write_text(json.dumps({"input_data": [rows.reshape(-1).tolist()]}))
    request = BuildRequest(
        model=onnx,
        calibration=calibration,
        folder=folder / name,
        name=name,
        srs=SrsSource("test"),
        visibility=Visibilities(input="public", param="fixed", output="public"),
    )
    return build(request, lambda *_: None)


class ProofService(Server):
    """Our service with one artifact."""

    def __init__(self, folder: Path, working: Path) -> None:
        port = free_port()
        command = [*SERVE, "ezkl_proof_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
        body = working / "request.json"
        [values] = json.loads((folder / "self_test.json").read_text())["input_data"]
        data = {"dtype": "float", "values": [values]}
        body.write_text(json.dumps({"source": 1, "data": data}))
        settings = {
            "EZKL_WORKFLOW_POSITIONAL_ARGS": json.dumps([str(folder)]),
            "EZKL_API_KEYS": KEY,
            "EZKL_DRAIN_DELAY_SECONDS": "0",
            "EZKL_LOG_REQUESTS": "false",
            "WORKING_PATH": str(working),
        }
        super().__init__("service", command, port, body, **settings)

    def ask(self) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/service_output",
            self.body.read_bytes(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
            assert json.load(reply)["calldata"].startswith("0x1e8e1e13")

    def cost(self) -> Cost:
        """Return the mean cost of a few proofs; all processes of the service count."""
        cpu, wall = self.cpu_seconds(), time.perf_counter()
        for _ in range(PROOFS):
            self.ask()
        cpu, wall = self.cpu_seconds() - cpu, time.perf_counter() - wall
        return Cost(cpu / PROOFS, wall / PROOFS, self._prover_memory_mb())

    def _prover_memory_mb(self) -> float:
        for pid in self.processes():
            if b"ml.proving.worker_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                [peak] = (line.split()[1] for line in status if line.startswith("VmHWM"))
                return int(peak) / 1024
        raise SystemExit("the service has no proving process")


def _compare(table: Table, folder: Path, artifact: Manifest, count: int) -> None:
    with tempfile.TemporaryDirectory() as working:
        service = ProofService(folder, Path(working))
        service.start()
        try:
            service.wait_until_it_answers()
            turns = [_turn(folder, service, ours_first=bool(number % 2)) for number in range(count)]
        finally:
            service.stop()
    key = Figure.of(artifact.files["pk.key"].size_bytes / 1e6, places=1, unit="MB")
    sides = [[turn[side] for turn in turns] for side in (0, 1)]
    ratio = Figure.ratio([own.cpu for own in sides[1]], [bare.cpu for bare in sides[0]], 3)
    costs = [figure for costs in sides for figure in _figures(costs)]
    table.row(artifact.name, f"2^{artifact.logrows}", key, *costs, ratio)


def _turn(folder: Path, service: ProofService, *, ours_first: bool) -> tuple[Cost, Cost]:
    """Return the costs of bare ezkl and of the service."""
    if ours_first:
        ours = service.cost()
        return _bare(folder), ours
    return _bare(folder), service.cost()


def _bare(folder: Path) -> Cost:
    script = PEERS / "bare_ezkl.py"
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, str(script), str(folder), str(PROOFS)],
            cwd=ROOT,
            env=os.environ | {"EZKL_REPO_PATH": cache},
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _figures(costs: list[Cost]) -> list[Figure]:
    return [
        Figure.of(*(getattr(cost, name) for cost in costs), places=places, unit=unit)
        for name, places, unit in (("cpu", 2, "s"), ("wall", 2, "s"), ("memory_mb", 0, "MB"))
    ]
