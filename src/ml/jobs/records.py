"""What is done to the records of jobs: one function for each step, in the caller's transaction.

Every change of a job begins by locking its row, so that changes of one job follow one another on
PostgreSQL as they do on SQLite, and the ids of its events are in the order of their commits.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from ml.errors import InvalidInput, NotFound
from ml.jobs import schema
from ml.jobs.database import plain
from ml.jobs.event_type import NewEvent, state_event
from ml.jobs.events import add_events
from ml.jobs.job import IllegalTransition, Job, JobState, StopRequest
from ml.jobs.process import Process

__all__ = [
    "claim_next",
    "create",
    "get",
    "list_jobs",
    "position",
    "positions",
    "request_stop",
    "requeue",
    "transition",
]

_jobs = schema.jobs.c
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_MESSAGES = {
    JobState.QUEUED: "waits for a free slot",
    JobState.RUNNING: "runs",
    JobState.SUCCEEDED: "is done",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "was cancelled",
    JobState.INTERRUPTED: "was interrupted; it can be resumed",
}


def create(
    connection: Connection,
    kind: str,
    request: dict[str, Any],
    job_id: str | None,
    trace: str | None = None,
) -> Job:
    """Queue a job. The same id with the same kind and request again gives the job there is.

    Raises `InvalidInput` for an id that cannot be a folder's name, or a request that is no JSON,
    and `IllegalTransition` for an id that another request has.
    """
    job_id = uuid.uuid4().hex if job_id is None else job_id
    if not _ID.fullmatch(job_id):
        raise InvalidInput("id: up to 96 letters, digits, '.', '_' and '-', no other first sign")
    try:
        request = plain(request)
    except TypeError as error:
        raise InvalidInput(f"the request is no JSON: {error}") from None
    number = _take_number(connection)  # locks others out until the end
    row = connection.execute(select(schema.jobs).where(_jobs.id == job_id)).one_or_none()
    if row is not None:
        if (row.kind, row.request) == (kind, request):
            return _job(row)
        raise IllegalTransition(f"there is a job {job_id} already, with another request")
    connection.execute(
        insert(schema.jobs).values(
            id=job_id,
            number=number,
            ticket=number,
            seq=0,
            kind=kind,
            state=JobState.QUEUED,
            request=request,
            created_at=time.time(),
            progress={},
            attempt=0,
            process={},
            trace=trace,
        )
    )
    add_events(connection, job_id, [_told(JobState.QUEUED)])
    return get(connection, job_id)


def get(connection: Connection, job_id: str, *, lock: bool = False) -> Job:
    """Return a job; raises `NotFound`."""
    query = select(schema.jobs).where(_jobs.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id!r}")
    return _job(row)


def list_jobs(
    connection: Connection,
    states: Collection[JobState] | None,
    limit: int,
    after: str | None,
    kind: str | None = None,
) -> list[Job]:
    """Return jobs, newest first; `after` is the id of the last one that the caller has."""
    query = select(schema.jobs).order_by(_jobs.number.desc()).limit(limit)
    if kind is not None:
        query = query.where(_jobs.kind == kind)
    if states is not None:
        query = query.where(_jobs.state.in_(states))
    if after is not None:
        last = select(_jobs.number).where(_jobs.id == after)
        number = connection.scalar(last if kind is None else last.where(_jobs.kind == kind))
        if number is None:
            raise NotFound(f"there is no job {after!r}")
        query = query.where(_jobs.number < number)
    return [_job(row) for row in connection.execute(query)]


def position(connection: Connection, job_id: str) -> int | None:
    """Return a job's place in the queue, 1 for the next one; None if it does not wait."""
    row = connection.execute(
        select(_jobs.state, _jobs.ticket).where(_jobs.id == job_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id!r}")
    if row.state != JobState.QUEUED:
        return None
    return connection.scalar(
        select(func.count()).where(_jobs.state == JobState.QUEUED, _jobs.ticket <= row.ticket)
    )


def positions(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Return the places in the queue of those of these jobs that wait."""
    place = func.row_number().over(order_by=_jobs.ticket).label("place")
    queue = select(_jobs.id, place).where(_jobs.state == JobState.QUEUED).subquery()
    rows = connection.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(job_ids)))
    return {row.id: row.place for row in rows}


def claim_next(
    connection: Connection, worker: str, most_running: int | None, host: str | None
) -> Job | None:
    """Make the job that waits longest a running one of `worker`; None if there is none.

    With `most_running`, also None while so many run, with `host` on that one: however many
    schedulers there are.
    """
    # This lock, on every store, makes counting and claiming one step.
    connection.execute(select(schema.counter.c.value).with_for_update())
    if most_running is not None:
        running = connection.scalars(select(_jobs.process).where(_jobs.state == JobState.RUNNING))
        if sum(host is None or _host_of(process) == host for process in running) >= most_running:
            return None
    job_id = connection.scalar(
        select(_jobs.id)
        .where(_jobs.state == JobState.QUEUED)
        .order_by(_jobs.ticket)
        .limit(1)
        .with_for_update()
    )
    if job_id is None:
        return None
    now = time.time()
    changed = connection.execute(
        update(schema.jobs)
        # PostgreSQL looks again after waiting for the lock: it may have been cancelled.
        .where(_jobs.id == job_id, _jobs.state == JobState.QUEUED)
        .values(
            state=JobState.RUNNING,
            started_at=now,
            heartbeat_at=now,
            attempt=_jobs.attempt + 1,
            process={"worker": worker},
        )
    )
    if not changed.rowcount:
        return None
    add_events(connection, job_id, [_told(JobState.RUNNING)])
    return get(connection, job_id)


def _host_of(process: dict[str, Any]) -> str | None:
    """Return where a job's process runs, or whoever will start it."""
    of = Process.of(process) or Process.parse(process.get("worker", ""))
    return None if of is None else of.host


def transition(
    connection: Connection,
    job_id: str,
    state: JobState,
    *,
    reason: str | None = None,
    result: dict[str, Any] | None = None,
    events: Sequence[NewEvent] = (),
    attempt: int | None = None,
) -> Job:
    """Give a job another state, with the event of that and these `events` after it.

    With `attempt`, only while it is this attempt. Raises `IllegalTransition`.
    """
    # The counter first, as everywhere: two locks in two orders would be a deadlock.
    ticket = {"ticket": _take_number(connection)} if state is JobState.QUEUED else {}
    job = get(connection, job_id, lock=True)
    superseded = attempt is not None and job.attempt != attempt
    if superseded or not job.state.may_become(state):
        raise IllegalTransition(f"job {job_id} is {job.state} and cannot become {state}")
    if reason is not None:
        reason = reason.replace("\0", "")  # which PostgreSQL does not take
    changes: dict[str, Any] = {"state": state, "reason": reason}
    changes["result"] = None if result is None else plain(result)
    if state.is_final:
        changes |= {"ended_at": time.time(), "stop": None}
    if state is JobState.QUEUED:
        changes |= ticket | {"ended_at": None, "heartbeat_at": None, "process": {}}
    connection.execute(update(schema.jobs).where(_jobs.id == job_id).values(**changes))
    add_events(connection, job_id, [_told(state, reason), *events])
    return get(connection, job_id)


def requeue(connection: Connection, job_id: str) -> Job:
    """Queue a job again that failed, was cancelled or interrupted, behind those that wait."""
    return transition(connection, job_id, JobState.QUEUED)


def request_stop(connection: Connection, job_id: str, stop: StopRequest) -> Job:
    """Ask a running job to stop; one that does not run is cancelled at once.

    A cancellation is not taken back by an interruption. Raises `IllegalTransition` for a job
    that ended, or is to be interrupted and does not run.
    """
    job = get(connection, job_id, lock=True)
    if job.state is not JobState.RUNNING:
        if stop is StopRequest.INTERRUPT:
            raise IllegalTransition(f"job {job_id} is {job.state}: there is nothing to interrupt")
        return transition(connection, job_id, JobState.CANCELLED)
    if job.stop is not StopRequest.CANCEL:
        connection.execute(update(schema.jobs).where(_jobs.id == job_id).values(stop=stop))
    return get(connection, job_id)


def _take_number(connection: Connection) -> int:
    value = schema.counter.c.value
    taken: int | None = connection.scalar(
        update(schema.counter).values(value=value + 1).returning(value)
    )
    if taken is None:
        raise RuntimeError("the job store has lost its counter")
    return taken


def _told(state: JobState, reason: str | None = None) -> NewEvent:
    return state_event(state, reason or f"The job {_MESSAGES[state]}.")


def _job(row: Row[Any]) -> Job:
    """Return a row as the record."""
    fields = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    stop = None if row.stop is None else StopRequest(row.stop)
    return Job(**fields | {"state": JobState(row.state), "stop": stop})
