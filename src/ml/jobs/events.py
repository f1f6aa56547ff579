"""The events of jobs in the store: appended with ids that have no gaps, read in order."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, Text, cast, func, insert, select, update

from ml.errors import NotFound
from ml.jobs import schema
from ml.jobs.database import plain
from ml.jobs.event_type import NewEvent
from ml.jobs.job import JobEvent, JobState
from ml.jobs.stretches import add_stretches

__all__ = [
    "Superseded",
    "add_events",
    "events_by_id",
    "last_event",
    "list_events",
    "raw_events",
]

_jobs = schema.jobs.c
_events = schema.events.c
#: Asked for in one statement, whose parameters SQLite and PostgreSQL both limit.
_MOST_IDS = 1000


class Superseded(Exception):
    """The job ended or runs in another process by now: this one must not write any more."""


def add_events(
    connection: Connection, job_id: str, new: Sequence[NewEvent], attempt: int | None = None
) -> int:
    """Append events and return the id of the last one.

    With `attempt`, only while this attempt runs: else raises `Superseded`. Raises `TypeError` for
    data that is no JSON.
    """
    # A sequence of the database would not do: its numbers are not in the order of commits, and a
    # reader that has seen 8 would never see a 7 that is committed later. The row's lock holds
    # others back until this transaction ends.
    change = update(schema.jobs).where(_jobs.id == job_id).values(seq=_jobs.seq + len(new))
    if attempt is not None:
        change = change.where(_jobs.attempt == attempt, _jobs.state == JobState.RUNNING)
    last: int | None = connection.scalar(change.returning(_jobs.seq))
    if last is None:
        raise Superseded(job_id)
    now = time.time()
    rows = [
        {"job_id": job_id, "id": number, "created_at": now, "type": type_, "data": plain(data)}
        for number, (type_, data) in enumerate(new, last - len(new) + 1)
    ]
    if rows:
        connection.execute(insert(schema.events), rows)
    add_stretches(connection, job_id, last - len(new), last)
    return last


def list_events(connection: Connection, job_id: str, after: int, limit: int) -> list[JobEvent]:
    """Return the events behind `after`, oldest first."""
    query = (
        select(_events.id, _events.created_at, _events.type, _events.data)
        .where(_events.job_id == job_id, _events.id > after)
        .order_by(_events.id)
        .limit(limit)
    )
    return [JobEvent(job_id, *row) for row in connection.execute(query)]


def raw_events(
    connection: Connection, job_id: str, type_: str, after: int, last: int
) -> tuple[str, str]:
    """Return the ids and the JSON of a type's events behind `after` up to `last`, comma-separated.

    The database joins them, in any order, the same for both: of thousands of events most of the
    time of `list_events` goes into each one's row.
    """
    query = select(
        func.aggregate_strings(cast(_events.id, Text), ","),
        func.aggregate_strings(cast(_events.data, Text), ","),
    ).where(_events.job_id == job_id, _events.id > after, _events.id <= last, _events.type == type_)
    ids, data = connection.execute(query).one()
    return ids or "", data or ""


def events_by_id(connection: Connection, job_id: str, ids: Sequence[int]) -> list[JobEvent]:
    """Return these events, oldest first."""
    query = select(_events.id, _events.created_at, _events.type, _events.data).where(
        _events.job_id == job_id
    )
    found = [
        JobEvent(job_id, *row)
        for first in range(0, len(ids), _MOST_IDS)
        for row in connection.execute(query.where(_events.id.in_(ids[first : first + _MOST_IDS])))
    ]
    return sorted(found, key=lambda event: event.id)


def last_event(connection: Connection, job_id: str) -> tuple[JobState, int]:
    """Return a job's state and the id of its last event; raises `NotFound`."""
    query = select(_jobs.state, _jobs.seq).where(_jobs.id == job_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id!r}")
    return JobState(row.state), row.seq
