"""How far a machine goes by its results: what `docs/scale.md` reckons with."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks.figures import Figure
from benchmarks.results import Record, Table
from benchmarks.scale import DAY, JOBS_A_DAY, Load, job_seconds

__all__ = ["machines", "writes"]

MEDIAN_MINUTES = 10.0
#: Of a running job: an event, and a sign of life.
WRITES_A_SECOND = 2.0
EVENT_BYTES = 200
REQUESTS_A_MINUTE = (1000, 100_000, 10_000_000)
#: What a machine is asked, of what it can answer.
LOAD = 0.7
ANSWER_TOKENS = 64


def writes(sections: Mapping[str, Record]) -> Table:
    """Return what running jobs write, beside what the store was seen to write."""
    [store] = sections["store"].tables
    most = _median(store, "events a second, 8 jobs", "PostgreSQL")
    table = Table("jobs a day", ["writes a second", "of PostgreSQL's", "events a day", "on disk"])
    for number in JOBS_A_DAY:
        running = Load(number / DAY, job_seconds(60 * MEDIAN_MINUTES)).running
        events = running * DAY
        table.rows.append(
            [
                str(number),
                Figure.of(running * WRITES_A_SECOND, places=1),
                Figure.of(100 * running * WRITES_A_SECOND / most, places=0, unit="%"),
                Figure.of(events, places=0),
                Figure.of(events * EVENT_BYTES / 1e6, places=0, unit="MB"),
            ]
        )
    return table


def machines(sections: Mapping[str, Record]) -> Table:
    """Return how many machines like this one so many requests take, at `LOAD` of what they can."""
    small = sections["small"].named("requests per second")
    tgi = sections["tgi"].named("upstream")
    llm = sections["llm"].named("tokens per second")
    proofs = sections["proofs"].named("circuit")
    rates = {
        "classic, 69 doubles, c=32": _median(small, "ours, log lines", "c=32"),
        "TGI client, upstream and all, c=256": _median(tgi, "20 ms, c=256", "through the service"),
        f"language model, {ANSWER_TOKENS} tokens, c=16": (
            _median(llm, "ours, openvino", "c=16") / ANSWER_TOKENS
        ),
        "proofs, iris": 1 / _median(proofs, "iris", "its wall"),
    }
    columns = [f"machines for {number} a minute" for number in REQUESTS_A_MINUTE]
    table = Table("service", ["answers a second", *columns])
    for name, rate in rates.items():
        needed = [math.ceil(number / 60 / (LOAD * rate)) for number in REQUESTS_A_MINUTE]
        table.rows.append(
            [name, Figure.of(rate, places=0), *(Figure.of(count, places=0) for count in needed)]
        )
    return table


def _median(table: Table, row: str, column: str) -> float:
    cell = table.cell(row, column)
    if isinstance(cell, str):
        raise LookupError(f"{row}: {cell!r} is no figure")
    return cell.median
