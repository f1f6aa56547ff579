"""Signs of life in the store: of a job's process, and of whoever has a lease."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ml.jobs import records, schema
from ml.jobs.events import Superseded
from ml.jobs.job import JobState, StopRequest

__all__ = ["acquire_lease", "beat", "release_lease", "take"]

_jobs = schema.jobs.c
_leases = schema.leases.c


def beat(connection: Connection, job_id: str, attempt: int, **changes: Any) -> StopRequest | None:
    """Show that an attempt lives, with changes of its record; return what it is asked for.

    Raises `Superseded` if it does not run.
    """
    change = update(schema.jobs).where(
        _jobs.id == job_id, _jobs.state == JobState.RUNNING, _jobs.attempt == attempt
    )
    row = connection.execute(
        change.values(heartbeat_at=time.time(), **changes).returning(_jobs.stop)
    ).one_or_none()
    if row is None:
        raise Superseded(job_id)
    return None if row.stop is None else StopRequest(row.stop)


def take(connection: Connection, job_id: str, attempt: int, process: dict[str, Any]) -> None:
    """Make a process the one that does an attempt; raises `Superseded` if another one does it."""
    there = records.get(connection, job_id, lock=True).process
    if "pid" in there and there != process:
        raise Superseded(job_id)
    beat(connection, job_id, attempt, process=process)


def acquire_lease(connection: Connection, name: str, holder: str, seconds: float) -> str:
    """Take or renew a lease if it is free, ours or expired; return who has it now."""
    # The counter's lock makes this one step, also while there is no row to lock yet.
    connection.execute(select(schema.counter.c.value).with_for_update())
    now = time.time()
    row = connection.execute(select(schema.leases).where(_leases.name == name)).one_or_none()
    if row is None:
        connection.execute(
            insert(schema.leases).values(name=name, holder=holder, expires_at=now + seconds)
        )
        return holder
    if row.holder != holder and row.expires_at > now:
        return str(row.holder)
    connection.execute(
        update(schema.leases)
        .where(_leases.name == name)
        .values(holder=holder, expires_at=now + seconds)
    )
    return holder


def release_lease(connection: Connection, name: str, holder: str) -> None:
    """Give up a lease, if this holder has it."""
    connection.execute(delete(schema.leases).where(_leases.name == name, _leases.holder == holder))
