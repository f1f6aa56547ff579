"""One measured run, rounds of runs that take turns, and ratios of their results."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure
from benchmarks.servers import KEY, ROOT, Server

__all__ = ["Run", "load", "ratios", "rounds"]


@dataclass(frozen=True)
class Run:
    """What one run of the load generator saw."""

    per_second: float
    #: those of them that are 200, while requests were sent
    good_per_second: float
    #: server CPU per answer, all its processes together, in microseconds
    cpu_us: float
    statuses: dict[int, int]
    unanswered: int
    p50_ms: float
    p99_ms: float
    #: how late requests were sent, because all connections waited or the generator was behind
    sent_late_ms: float

    @property
    def share_of_503(self) -> float:
        return self.statuses.get(503, 0) / (sum(self.statuses.values()) + self.unanswered)


def load(server: Server, *, connections: int, seconds: float, rate: float | None = None) -> Run:
    """Run the load generator against a server; a closed loop without a rate."""
    command = [sys.executable, "-m", "benchmarks.load", f"--port={server.port}", f"--key={KEY}"]
    command += [f"--body={server.body}", f"--connections={connections}", f"--seconds={seconds}"]
    if rate is not None:
        command.append(f"--rate={rate}")
    before = server.cpu_seconds()
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    cpu = server.cpu_seconds() - before
    result: dict[str, Any] = json.loads(output)
    statuses = {int(status): count for status, count in result["statuses"].items()}
    answers = sum(statuses.values())
    if rate is None and (set(statuses) != {200} or result["unanswered"]):
        raise SystemExit(f"{server.name} at c={connections}: {statuses}, not only 200")
    return Run(
        per_second=result["per_second"],
        good_per_second=result["good_per_second"],
        cpu_us=1e6 * cpu / answers,
        statuses=statuses,
        unanswered=result["unanswered"],
        p50_ms=result["p50_ms"] or math.nan,
        p99_ms=result["p99_ms"] or math.nan,
        sent_late_ms=result["sent_late_p50_ms"],
    )


def rounds(
    servers: Sequence[Server], *, connections: Sequence[int], seconds: float, count: int
) -> dict[tuple[str, int], list[Run]]:
    """Let servers take turns, so that a busy machine slows all of them.

    The order turns round in every second round. The first, short run of each warms it up.
    """
    runs: dict[tuple[str, int], list[Run]] = {}
    for server in servers:
        load(server, connections=max(connections), seconds=0.5)
    for number in range(count):
        for c in connections:
            for server in servers[:: -1 if number % 2 else 1]:
                run = load(server, connections=c, seconds=seconds)
                runs.setdefault((server.name, c), []).append(run)
                print(f"  {server.name:<22} c={c:<4} {run.per_second:8.0f}/s", file=sys.stderr)
    return runs


def ratios(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[Figure, Figure]:
    """Return throughput (more is better) and CPU per request (less is better) within rounds."""
    speed = Figure.ratio([run.per_second for run in ours], [run.per_second for run in theirs])
    return speed, Figure.ratio([run.cpu_us for run in ours], [run.cpu_us for run in theirs])
