"""The tables of the job store. A change here needs a migration in `ml.jobs.migrations`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator

__all__ = ["counter", "events", "jobs", "leases", "metadata", "stretches"]

metadata = MetaData()

_JSON = JSON(none_as_null=True)


class _Id(TypeDecorator[str]):
    """A job's id. PostgreSQL fails on a NUL in one that is asked for, which names no job."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """Return what the database is asked for."""
        return None if value is None else value.replace("\0", "\ufffd")


jobs = Table(
    "jobs",
    metadata,
    Column("id", _Id, primary_key=True),
    #: The order in which jobs were made, for lists.
    Column("number", Integer, nullable=False, unique=True),
    #: The order in which they wait. A job that is queued again gets a new ticket.
    Column("ticket", Integer, nullable=False),
    #: The id of its last event.
    Column("seq", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("request", _JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("progress", _JSON, nullable=False),
    Column("result", _JSON),
    Column("reason", Text),
    Column("stop", Text),
    Column("attempt", Integer, nullable=False),
    Column("heartbeat_at", Float),
    Column("process", _JSON, nullable=False),
    Column("trace", Text),
    Index("jobs_by_state", "state", "ticket"),
)

events = Table(
    "job_events",
    metadata,
    Column("job_id", _Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("id", Integer, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", _JSON, nullable=False),
)

#: A hundred events each, in few: see `ml.jobs.stretches`.
stretches = Table(
    "job_stretches",
    metadata,
    Column("job_id", _Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("points", _JSON, nullable=False),
    Column("others", _JSON, nullable=False),
)

#: One row. Whoever takes a number holds its lock until the transaction ends.
counter = Table(
    "job_counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

leases = Table(
    "job_leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Float, nullable=False),
)
