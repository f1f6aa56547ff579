"""What the jobs of a store come to, in numbers: those of each state, and those that run now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ml.jobs import schema
from ml.jobs.job import Job, JobState
from ml.jobs.records import list_jobs

__all__ = ["Figures", "figures"]

_jobs = schema.jobs.c
_events = schema.events.c


@dataclass(frozen=True, slots=True)
class Figures:
    """The jobs of a store at one moment.

    Attributes:
        numbers: of jobs in each state; those that have none are in it.
        seconds: that the jobs of each state ran in their last attempt, all together.
        waiting_seconds: since the next job to start was queued; 0 where none waits.
        running: the newest of those that run.
    """

    numbers: Mapping[JobState, int]
    seconds: Mapping[JobState, float]
    waiting_seconds: float
    running: Sequence[Job]


def figures(connection: Connection, most_running: int) -> Figures:
    """Return the numbers, with at most so many of the running jobs."""
    now = time.time()
    ran = func.sum(func.coalesce(_jobs.ended_at, now) - _jobs.started_at)
    rows = connection.execute(select(_jobs.state, func.count(), ran).group_by(_jobs.state))
    found = {JobState(state): (count, seconds or 0.0) for state, count, seconds in rows}
    return Figures(
        numbers={state: found.get(state, (0, 0.0))[0] for state in JobState},
        seconds={state: found.get(state, (0, 0.0))[1] for state in JobState},
        waiting_seconds=_waiting_seconds(connection, now),
        running=list_jobs(connection, [JobState.RUNNING], most_running, None),
    )


def _waiting_seconds(connection: Connection, now: float) -> float:
    # What happened last to a job that waits is that it was queued.
    queued_at = connection.scalar(
        select(_events.created_at)
        .join(schema.jobs, (_jobs.id == _events.job_id) & (_jobs.seq == _events.id))
        .where(_jobs.state == JobState.QUEUED)
        .order_by(_jobs.ticket)
        .limit(1)
    )
    return 0.0 if queued_at is None else max(0.0, now - queued_at)
