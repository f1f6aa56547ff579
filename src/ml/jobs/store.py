"""The store of jobs for web workers: records and events in SQLite or PostgreSQL.

Any number of workers, and the jobs' own processes, share one store. What a call has returned
outlives a kill -9 of any of them; a call that is cancelled is done nevertheless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from ml.jobs import events, liveness, records
from ml.jobs.database import async_engine, normal_url, reading, store_failure
from ml.jobs.event_type import NewEvent
from ml.jobs.figures import Figures, figures
from ml.jobs.job import Job, JobEvent, JobState, StopRequest
from ml.jobs.migration import migrate
from ml.jobs.shielded import ShieldedTasks
from ml.jobs.stretches import Texts, raw_stretches
from ml.tracing import goes_with

__all__ = ["JobStore"]

T = TypeVar("T")
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.INTERRUPTED)
#: More jobs than anybody lets wait.
_MOST = 100_000


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        explained = store_failure(error)
        if explained is None:
            raise
        raise explained from error


class JobStore:
    """Jobs and their events, at `sqlite:///path` or `postgresql://user:password@host/name`.

    Open it once in each process, after forking and in the event loop that uses it. Any call raises
    `StorageFull` or `StorageUnavailable` where the database is at fault.
    """

    def __init__(self, url: str) -> None:
        self.url = normal_url(url)
        self._engine = async_engine(self.url)
        self._transactions = ShieldedTasks()

    async def open(self) -> Self:
        """Bring the tables up to date."""
        with _explained():
            await asyncio.to_thread(migrate, self.url)
        return self

    async def close(self) -> None:
        """Close the connections, once what was begun is done."""
        await self._transactions.join()
        await self._engine.dispose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- jobs ---------------------------------------------------------------------------------

    async def create(self, kind: str, request: dict[str, Any], id: str | None = None) -> Job:  # noqa: A002
        """Queue a job. The same id with the same kind and request again gives the job there is.

        Raises `InvalidInput` for an id that cannot be a folder's name and a request that is no
        JSON, and `IllegalTransition` for an id that another request has.
        """
        trace = goes_with().get("traceparent")
        return await self._write(lambda c: records.create(c, kind, request, id, trace))

    async def get(self, id: str) -> Job:  # noqa: A002
        """Return a job; raises `NotFound`."""
        return await self._read(lambda c: records.get(c, id))

    async def unfinished(self) -> Sequence[Job]:
        """Return all jobs that wait, run, or are interrupted, newest first."""
        return await self._read(lambda c: records.list_jobs(c, _UNFINISHED, _MOST, None))

    async def position(self, id: str) -> int | None:  # noqa: A002
        """Return a job's place in the queue, 1 for the next one; None if it does not wait."""
        return await self._read(lambda c: records.position(c, id))

    async def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the places in the queue of those of these jobs that wait."""
        return await self._read(lambda c: records.positions(c, ids))

    async def figures(self, most_running: int) -> Figures:
        """Return the numbers of all jobs, with at most so many of those that run."""
        return await self._read(lambda c: figures(c, most_running))

    async def claim_next(
        self, worker: str, most_running: int | None = None, host: str | None = None
    ) -> Job | None:
        """Make the job that waits longest a running one; None if there is none.

        With `most_running`, also None while so many run, with `host` on that one, however many
        claim at once.
        """
        return await self._write(lambda c: records.claim_next(c, worker, most_running, host))

    async def transition(
        self,
        id: str,  # noqa: A002
        state: JobState,
        *,
        reason: str | None = None,
        result: dict[str, Any] | None = None,
        events: Sequence[NewEvent] = (),
        attempt: int | None = None,
    ) -> Job:
        """Give a job another state, with the event of that and then these `events`.

        With `attempt`, only while it is this attempt. Raises `IllegalTransition`.
        """
        return await self._write(
            lambda c: records.transition(
                c, id, state, reason=reason, result=result, events=events, attempt=attempt
            )
        )

    async def requeue(self, id: str) -> Job:  # noqa: A002
        """Queue a job again that failed, was cancelled or interrupted, behind those that wait."""
        return await self._write(lambda c: records.requeue(c, id))

    async def request_stop(self, id: str, stop: StopRequest) -> Job:  # noqa: A002
        """Ask a running job to stop; cancelling one that does not run ends it at once.

        Raises `IllegalTransition` for a job that ended.
        """
        return await self._write(lambda c: records.request_stop(c, id, stop))

    # --- events -------------------------------------------------------------------------------

    async def events(self, id: str, after: int = 0, limit: int = 1000) -> Sequence[JobEvent]:  # noqa: A002
        """Return the events behind `after`, oldest first."""
        return await self._read(lambda c: events.list_events(c, id, after, limit))

    async def raw_events(self, id: str, type: str, after: int, last: int) -> tuple[str, str]:  # noqa: A002
        """Return the ids and the JSON of a type's events behind `after` up to `last`.

        Both are comma-separated and in the same order, which may be any.
        """
        return await self._read(lambda c: events.raw_events(c, id, type, after, last))

    async def raw_stretches(self, id: str, after: int, last: int) -> Texts:  # noqa: A002
        """Return those stretches of which all events are behind `after` and up to `last`."""
        return await self._read(lambda c: raw_stretches(c, id, after, last))

    async def events_by_id(self, id: str, ids: Sequence[int]) -> Sequence[JobEvent]:  # noqa: A002
        """Return these events, oldest first."""
        return await self._read(lambda c: events.events_by_id(c, id, ids))

    async def last_event(self, id: str) -> tuple[JobState, int]:  # noqa: A002
        """Return a job's state and the id of its last event; raises `NotFound`."""
        return await self._read(lambda c: events.last_event(c, id))

    # --- who schedules ------------------------------------------------------------------------

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> str:
        """Take or renew a lease if it is free, ours or expired; return who has it now."""
        return await self._write(lambda c: liveness.acquire_lease(c, name, holder, seconds))

    async def release_lease(self, name: str, holder: str) -> None:
        """Give up a lease, if this holder has it."""
        await self._write(lambda c: liveness.release_lease(c, name, holder))

    # --- transactions -------------------------------------------------------------------------

    # A driver that is cancelled in a transaction may leave the database locked: none is.

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._transactions.run(self._write_transaction(work))

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._transactions.run(self._read_transaction(work))

    async def _write_transaction(self, work: Callable[[Connection], T]) -> T:
        with _explained():
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def _read_transaction(self, work: Callable[[Connection], T]) -> T:
        with _explained():
            async with self._engine.connect() as connection:
                await connection.execution_options(**reading)
                async with connection.begin():
                    return await connection.run_sync(work)

    # Last, because its name is the builtin's in what follows it in this class.
    async def list(
        self,
        states: Collection[JobState] | None = None,
        limit: int = 100,
        after: str | None = None,
        *,
        kind: str | None = None,
    ) -> Sequence[Job]:
        """Return jobs, newest first; `after` is the id of the last one that the caller has."""
        return await self._read(lambda c: records.list_jobs(c, states, limit, after, kind))
