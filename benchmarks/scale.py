"""What waits, and what is full, as jobs grow in number: a seeded simulation of the queue.

    python -m benchmarks.scale [--seed 0] [--minutes 10] [--slots N] [--jobs 1000000]

Jobs arrive at random over the day and take lognormal times, whose median is `--minutes`; as many
run at once as there are slots. For each number of jobs a day the table has the fewest slots with
which the mean wait is under a minute by Erlang's formula, and what the simulation then finds.

Sources: A. K. Erlang (1917), the formula that is called C; C. Allen and J. Cunneen, who extended it
to service times that are not exponential: W(M/G/c) = W(M/M/c) (1 + cv²) / 2.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
from collections import deque
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.results import recording

__all__ = ["DAY", "JOBS_A_DAY", "Load", "Seen", "erlang_wait", "simulate", "slots_needed"]

JOBS_A_DAY = (10, 1000, 100_000)
DAY = 86_400.0
#: Of the logarithm of a job's time: the longest of a hundred takes about ten times the median.
SPREAD = 1.0
MOST_WAIT = 60.0
COLUMNS = (
    *("run at once", "slots", "mean wait: formula", "simulated", "median", "p99"),
    *("slots busy", "most that wait"),
)
JOBS = 1_000_000


@dataclass(frozen=True)
class Load:
    """Jobs that arrive at `rate` a second, each of which takes `mean` seconds on average."""

    rate: float
    mean: float

    @property
    def running(self) -> float:
        """How many run at once on average, if none has to wait."""
        return self.rate * self.mean


@dataclass(frozen=True)
class Seen:
    """What a simulation found: seconds of waiting, the part of the slots in use, jobs in line."""

    mean: float
    median: float
    p99: float
    busy: float
    most_waiting: int


def job_seconds(median: float) -> float:
    """Return the mean of lognormal times with such a median."""
    return median * math.exp(SPREAD**2 / 2)


def erlang_wait(load: Load, slots: int) -> float:
    """Return the mean seconds of waiting; infinite where more comes than the slots can do."""
    if load.running >= slots:
        return math.inf
    # The reciprocal of Erlang's B, which cannot overflow: 1/B(c) = 1 + c/a · 1/B(c-1).
    inverse = 1.0
    for number in range(1, slots + 1):
        inverse = 1.0 + number / load.running * inverse
    blocked = 1.0 / inverse
    used = load.running / slots
    waiting = blocked / (1.0 - used + used * blocked)
    squared_variation = math.exp(SPREAD**2) - 1.0
    return waiting * load.mean / (slots - load.running) * (1.0 + squared_variation) / 2.0


def slots_needed(load: Load) -> int:
    """Return the fewest slots with which jobs wait less than `MOST_WAIT` seconds on average."""
    slots = max(1, math.ceil(load.running))
    while erlang_wait(load, slots) > MOST_WAIT:
        slots += 1
    return slots


def simulate(load: Load, slots: int, *, jobs: int, seed: int) -> Seen:
    """Let jobs come, wait in one line, and run."""
    chance = random.Random(seed)
    median = load.mean / math.exp(SPREAD**2 / 2)
    waits: list[float] = []
    free_at = [0.0] * slots  # a heap: when each slot is next free
    waiting: deque[float] = deque()  # when those that wait will start
    worked = now = 0.0
    most_waiting = 0
    for _ in range(jobs):
        now += chance.expovariate(load.rate)
        start = max(now, free_at[0])
        seconds = median * math.exp(chance.gauss(0.0, SPREAD))
        heapq.heapreplace(free_at, start + seconds)
        while waiting and waiting[0] <= now:
            waiting.popleft()
        if start > now:
            waiting.append(start)
        most_waiting = max(most_waiting, len(waiting))
        waits.append(start - now)
        worked += seconds
    waits = sorted(waits[jobs // 2 :])  # when the line has found its length
    return Seen(
        statistics.fmean(waits),
        waits[len(waits) // 2],
        waits[int(len(waits) * 0.99)],
        worked / (slots * max(free_at)),
        most_waiting,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scale")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0, help="the median of a job's time")
    parser.add_argument("--slots", type=int, help="in place of as many as are needed")
    parser.add_argument("--jobs", type=int, default=JOBS, help="that are simulated")
    options = parser.parse_args()
    with recording("scale") as record:
        table = record.table("jobs a day", *COLUMNS)
        for number in JOBS_A_DAY:
            load = Load(number / DAY, job_seconds(60 * options.minutes))
            slots = options.slots or slots_needed(load)
            seen = simulate(load, slots, jobs=options.jobs, seed=options.seed)
            waits = (erlang_wait(load, slots), seen.mean, seen.median, seen.p99)
            table.row(
                str(number),
                Figure.of(load.running),
                Figure.of(slots, places=0),
                *(Figure.of(wait, places=0, unit="s") for wait in waits),
                Figure.of(100 * seen.busy, places=0, unit="%"),
                Figure.of(seen.most_waiting, places=0),
            )


if __name__ == "__main__":
    main()
