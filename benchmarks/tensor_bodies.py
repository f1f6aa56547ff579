"""A large tensor to the classic service and back: as JSON, and as bytes of each form.

    python -m benchmarks.tensor_bodies [values] [rounds]

One client; a round asks once in each form, in turn, and the client's own writing and reading counts
too, in one column: with json and numpy, with numpy, safetensors and pyarrow. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure
from benchmarks.results import Record, recording
from benchmarks.servers import KEY, Server, ours, started

PARSER = argparse.ArgumentParser(prog="benchmarks.tensor_bodies", description=__doc__)
PARSER.add_argument("values", type=int, nargs="?", default=1_000_000, help="float32 values")
PARSER.add_argument("rounds", type=int, nargs="?", default=9)

Form = tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]


def _forms() -> dict[str, Form]:
    import pyarrow as pa
    from safetensors.numpy import load, save

    def write_npy(array: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    def write_arrow(array: Any) -> bytes:
        batch = pa.record_batch({"x": pa.array(array)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())

    def write_json(array: Any) -> bytes:
        data = {"dtype": "float", "values": array.tolist()}
        return json.dumps({"source": 1, "data": data}).encode()

    return {
        "JSON": ("application/json", write_json, lambda body: np.array(json.loads(body)["values"])),
        ".npy": ("application/x-npy", write_npy, lambda body: np.load(io.BytesIO(body))),
        "safetensors": (
            "application/x-safetensors",
            lambda array: save({"x": array}),
            lambda body: load(body)["output"],
        ),
        "Arrow": (
            "application/vnd.apache.arrow.stream",
            write_arrow,
            lambda body: pa.ipc.open_stream(body).read_all()["output"].to_numpy(),
        ),
    }


def _ask(server: Server, kind: str, body: bytes) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/service_output",
        body,
        {"Content-Type": kind, "Authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        answer: bytes = reply.read()
    return answer


def main() -> None:
    """Print a row for each form."""
    options = PARSER.parse_args()
    array = np.random.default_rng(0).standard_normal(options.values).astype(np.float32)
    with tempfile.NamedTemporaryFile() as body:
        body.write(b'{"source": 1, "data": {"dtype": "float", "values": [[1, 2]]}}')
        body.flush()
        with recording("tensor_bodies") as record:
            _compare(record, array, options.rounds, Path(body.name))


def _compare(record: Record, array: Any, rounds: int, first: Path) -> None:
    server = ours(
        "ours",
        model={},
        body=first,
        workflow_class="benchmarks.peers.doubling.Doubling",
        max_body_bytes=1 << 28,
    )
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in _forms()}
    with started(server):
        server.wait_until_it_answers()
        for _ in range(rounds):
            for name, (kind, write, read) in _forms().items():
                begun = time.perf_counter()
                body = write(array)
                sent = time.perf_counter()
                answer = _ask(server, kind, body)
                answered = time.perf_counter()
                np.testing.assert_array_equal(read(answer).astype(np.float32), 2 * array)
                ended = time.perf_counter()
                taken[name].append((answered - sent, ended - begun))
    columns = ("request", "x JSON", "with the client", "x JSON with it")
    table = record.table("form", *columns)
    base = list(zip(*taken["JSON"], strict=True))
    for name, times in taken.items():
        cells = []
        for json_seconds, seconds in zip(base, zip(*times, strict=True), strict=True):
            cells.append(Figure.of(*(1000 * one for one in seconds), places=1, unit="ms"))
            cells.append(Figure.ratio(json_seconds, seconds, 1))
        table.row(name, *cells)


if __name__ == "__main__":
    main()
