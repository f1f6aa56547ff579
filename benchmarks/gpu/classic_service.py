"""The classic service over HTTP, with a model whose batches cost little more than single runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.asking import ask
from benchmarks.gpu.finding import Finding, Scale
from benchmarks.heavy_model import save_heavy_model
from benchmarks.measure import load
from benchmarks.servers import REQUEST, ours, started

__all__ = ["classic_service"]

ROWS, TOLERANCE = 64, 1e-4


def classic_service(scale: Scale) -> Iterator[Finding]:
    """Yield how far its outputs are from the CPU's, and its rates with and without batches."""
    with tempfile.TemporaryDirectory() as name:
        file, body = Path(name, "heavy.torch"), Path(name, "request.json")
        save_heavy_model(file)
        body.write_bytes(REQUEST.read_bytes().replace(b'"double"', b'"float"'))
        source = {"model_source": "LOCAL", "model_args": {"path": str(file)}}
        model = source | {"device": scale.device}
        for most in (32, 1):
            server = ours("ours", model=model, body=body, max_batch_size=most, log_requests=False)
            with started(server):
                server.wait_until_it_answers()
                if most > 1:
                    yield _distance(server.port, file)
                for c in scale.connections:
                    run = load(server, connections=c, seconds=0.5 if scale.quick else 3)
                    yield Finding(
                        f"{'batches' if most > 1 else 'one by one'}, c={c}",
                        f"{run.per_second:.0f} requests/s, p50 {run.p50_ms:.1f} ms",
                    )


@torch.inference_mode()
def _distance(port: int, file: Path) -> Finding:
    torch.manual_seed(1)
    rows = torch.randn(ROWS, 69)
    data = {"dtype": "float", "values": rows.tolist()}
    answer = ask(port, "/service_output", {"source": 1, "destination": 1, "data": data})
    expected = torch.load(file, weights_only=False)(rows)  # our own file, just written
    made = torch.tensor(answer["values"])
    distance = float((made - expected).norm() / expected.norm())
    return Finding(
        f"{ROWS} rows, distance from the CPU's outputs", f"{distance:.1e}", distance < TOLERANCE
    )
