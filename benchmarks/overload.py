"""More requests than a service can answer: what it still answers, and what its probes see."""

from __future__ import annotations

import math
import statistics
from typing import Any

from benchmarks.figures import Figure
from benchmarks.heavy import BATCH, heavy_options
from benchmarks.measure import Run, load
from benchmarks.probing import probing
from benchmarks.results import Record, Table
from benchmarks.servers import SMALL_MODEL, Server, ours, running

__all__ = ["overload"]

TIMES = (2, 10)
CAPACITY_CONNECTIONS = 64
CONNECTIONS = 1024


def overload(record: Record, count: int, seconds: float) -> None:
    """Ask in an open loop at several times the best rate of a closed one."""
    table = record.table(
        "service, and times its best rate",
        *("closed loop", "answered", "of the closed loop", "p50 of 200", "p99 of 200", "503"),
        *("neither", "sent late, p50", "/health/ready p50", "p99", "max"),
    )
    small = {"model": SMALL_MODEL, "log_requests": False}
    with heavy_options() as heavy:
        for name, options in (("heavy", heavy | {"max_batch_size": BATCH}), ("small", small)):
            for server in ("granian", "hypercorn"):
                with running(ours(f"{name}, {server}", server=server, **options)) as [service]:
                    _overload(table, service, count, seconds)


def _overload(table: Table, server: Server, count: int, seconds: float) -> None:
    """Each open loop stands behind a closed one: the machine is not as fast at every moment."""
    load(server, connections=CAPACITY_CONNECTIONS, seconds=1)
    runs: dict[int, list[tuple[Run, Run]]] = {times: [] for times in TIMES}
    probes: dict[int, list[float]] = {times: [] for times in TIMES}
    for _ in range(count):
        for times in TIMES:
            closed = load(server, connections=CAPACITY_CONNECTIONS, seconds=seconds)
            rate = times * closed.per_second
            with probing(server) as taken:
                opened = load(server, connections=CONNECTIONS, seconds=seconds, rate=rate)
            runs[times].append((closed, opened))
            probes[times] += taken
    for times in TIMES:
        table.row(f"{server.name}, {times} x", *_cells(runs[times], sorted(probes[times])))


def _cells(pairs: list[tuple[Run, Run]], probes: list[float]) -> list[Any]:
    runs = [opened for _, opened in pairs]
    neither = sum(
        n for run in runs for status, n in run.statuses.items() if status not in (200, 503)
    )
    p99 = probes[math.ceil(0.99 * (len(probes) - 1))]
    return [
        Figure.of(*(closed.per_second for closed, _ in pairs), places=0, unit="/s"),
        Figure.of(*(run.good_per_second for run in runs), places=0, unit="/s"),
        Figure.of(*(opened.good_per_second / closed.per_second for closed, opened in pairs)),
        Figure.of(*(run.p50_ms for run in runs), places=0, unit="ms"),
        Figure.of(*(run.p99_ms for run in runs), places=0, unit="ms"),
        Figure.of(*(100 * run.share_of_503 for run in runs), places=0, unit="%"),
        Figure.of(neither + sum(run.unanswered for run in runs), places=0),
        Figure.of(*(run.sent_late_ms for run in runs), places=1, unit="ms"),
        *(
            Figure.of(taken, places=0, unit="ms")
            for taken in (statistics.median(probes), p99, probes[-1])
        ),
    ]
