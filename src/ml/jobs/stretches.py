"""Each hundred events of a job in few: what a chart of a long job is drawn of.

They are written with the hundredth event, in its transaction: whoever looks at a job of hundreds of
thousands of steps then reads thousands of events. Of the events of progress stay the first, those
that go back some steps, and those with the lowest and highest value of a curve; of all others their
ids. Events of a store from before there were stretches are in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection, Text, cast, func, insert, select

from ml.jobs import schema
from ml.jobs.event_type import EventType

__all__ = [
    "CURVES",
    "LENGTH",
    "STEP",
    "Stretch",
    "Texts",
    "add_stretches",
    "raw_stretches",
    "read_stretches",
]

#: Events of a stretch: number 0 has those with the ids from 1 on.
LENGTH = 100
#: The numbers of progress that are drawn over the steps.
CURVES = ("loss", "eval_loss", "grad_norm", "memory_bytes", "gpu_memory_bytes")
STEP = "step"

#: Numbers, points and others of stretches as JSON, comma-separated, in the same order: any.
Texts = tuple[str, str, str]

_events, _stretches = schema.events.c, schema.stretches.c


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of events.

    Attributes:
        points: those events of progress that stay, in any order: the `id`, the step and the
            numbers of the curves of each, as far as it has them.
        others: the ids of all events that tell no progress.
    """

    number: int
    points: list[dict[str, Any]]
    others: list[int]


def add_stretches(connection: Connection, job_id: str, before: int, last: int) -> None:
    """Write the stretches that the events behind `before` up to `last` have made whole."""
    for number in range(before // LENGTH, last // LENGTH):
        first = number * LENGTH
        rows = connection.execute(
            select(_events.id, _events.type, _events.data).where(
                _events.job_id == job_id, _events.id > first, _events.id <= first + LENGTH
            )
        ).all()
        points = list(_points(rows))
        others = [row.id for row in rows if row.type != EventType.PROGRESS]
        values = {"job_id": job_id, "number": number, "points": points, "others": others}
        connection.execute(insert(schema.stretches), values)


def raw_stretches(connection: Connection, job_id: str, after: int, last: int) -> Texts:
    """Return, for `read_stretches`, those of which all events are behind `after` and up to `last`.

    The database joins them, as in `ml.jobs.events.raw_events`.
    """
    query = select(
        func.aggregate_strings(cast(_stretches.number, Text), ","),
        func.aggregate_strings(cast(_stretches.points, Text), ","),
        func.aggregate_strings(cast(_stretches.others, Text), ","),
    ).where(
        _stretches.job_id == job_id,
        _stretches.number >= -(-after // LENGTH),
        _stretches.number < last // LENGTH,
    )
    numbers, points, others = connection.execute(query).one()
    return numbers or "", points or "", others or ""


def read_stretches(texts: Texts) -> list[Stretch]:
    """Return the stretches in their order; a job of many steps has thousands."""
    columns = [orjson.loads(f"[{text}]") for text in texts]
    stretches = [Stretch(*row) for row in zip(*columns, strict=True)]
    return sorted(stretches, key=lambda one: one.number)


def _points(rows: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """Return those events of progress that stay, each once."""
    progress = [
        {"id": row.id, **_numbers(row.data)} for row in rows if row.type == EventType.PROGRESS
    ]
    progress.sort(key=itemgetter("id"))
    kept = chain(progress[:1], _going_back(progress), _extremes(progress))
    return {point["id"]: point for point in kept}.values()


def _numbers(data: dict[str, Any]) -> dict[str, int | float]:
    named = ((name, data.get(name)) for name in (*CURVES, STEP))
    return {name: value for name, value in named if isinstance(value, int | float)}


def _going_back(progress: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for earlier, point in pairwise(progress):
        if STEP in earlier and STEP in point and point[STEP] < earlier[STEP]:
            yield point


def _extremes(progress: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for curve in CURVES:
        drawn = [point for point in progress if curve in point]
        if drawn:
            yield min(drawn, key=itemgetter(curve))
            yield max(drawn, key=itemgetter(curve))
