"""A model whose batches cost little more than single runs: with and without batching."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import ratios, rounds
from benchmarks.results import Record
from benchmarks.servers import REQUEST, litserve, ours, running

__all__ = ["BATCH", "heavy", "heavy_options"]

CONNECTIONS = (1, 32, 64)
BATCH = 32


@contextlib.contextmanager
def heavy_options() -> Iterator[dict[str, Any]]:
    """Write the model and a request to it; yields what `ours` needs for it."""
    with tempfile.TemporaryDirectory() as folder:
        from benchmarks.heavy_model import save_heavy_model  # brings torch

        file = Path(folder, "heavy.torch")
        save_heavy_model(file)
        body = Path(folder, "request.json")
        body.write_bytes(REQUEST.read_bytes().replace(b'"double"', b'"float"'))
        model = {"model_source": "LOCAL", "model_args": {"path": str(file)}}
        yield {"model": model, "body": body, "log_requests": False}


def heavy(record: Record, count: int, seconds: float) -> None:
    """Compare batches with single runs, and with the batches of LitServe."""
    with heavy_options() as options:
        file = Path(options["model"]["model_args"]["path"])
        with running(
            ours("batches", max_batch_size=BATCH, **options),
            ours("batches, hypercorn", max_batch_size=BATCH, server="hypercorn", **options),
            ours("one by one", max_batch_size=1, **options),
            litserve(file, BATCH, options["body"]),
        ) as servers:
            runs = rounds(servers, connections=CONNECTIONS, seconds=seconds, count=count)
    table = record.table("batches / other", "requests per second", "server CPU per request")
    for peer in ("batches, hypercorn", "one by one", "LitServe"):
        for c in CONNECTIONS:
            table.row(f"batches / {peer}, c={c}", *ratios(runs["batches", c], runs[peer, c]))
