"""A job's record as its own process writes it: synchronous, patient, and only while it may."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from ml.jobs import liveness, records
from ml.jobs.database import plain, store_failure, sync_engine
from ml.jobs.events import NewEvent, add_events
from ml.jobs.job import Job, JobState, StopRequest

__all__ = ["OwnJob"]

#: How long a write waits for a store that restarts, or whose disk is full, before it fails.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 30.0, 0.5

T = TypeVar("T")


class OwnJob:
    """The record of a running job, for the one process that does this attempt of it.

    Once the job has ended or another attempt of it began, writing raises `Superseded`; where the
    store cannot be written for a while, `StorageFull` or `StorageUnavailable`. Methods may be
    called from any thread.
    """

    def __init__(self, store_url: str, job_id: str) -> None:
        self._engine = sync_engine(store_url)
        self.job: Job = self._write(lambda connection: records.get(connection, job_id))

    def add_event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002
        """Append an event; it is committed when this returns."""
        new = [(type, data)]
        self._write(lambda connection: add_events(connection, self.job.id, new, self.job.attempt))

    def set_progress(self, numbers: dict[str, Any]) -> None:
        """Replace the newest numbers."""
        self._beat(progress=plain(numbers))

    def set_process(self, process: dict[str, Any]) -> None:
        """Say which process this is."""
        self._beat(process=process)

    def heartbeat(self) -> StopRequest | None:
        """Show a sign of life, and return what the job is asked for."""
        return self._beat()

    def finish(
        self,
        state: JobState,
        *,
        reason: str | None = None,
        result: dict[str, Any] | None = None,
        events: Sequence[NewEvent] = (),
    ) -> None:
        """End the job, with the last events in the same step."""
        attempt = self.job.attempt
        self._write(
            lambda connection: records.transition(
                connection,
                self.job.id,
                state,
                reason=reason,
                result=result,
                events=events,
                attempt=attempt,
            )
        )

    def asked(self) -> StopRequest | None:
        """Return what the job is asked for in the store by now."""
        return self._write(lambda connection: records.get(connection, self.job.id)).stop

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _beat(self, **changes: Any) -> StopRequest | None:
        return self._write(
            lambda connection: liveness.beat(connection, self.job.id, self.job.attempt, **changes)
        )

    def _write(self, work: Callable[[Connection], T]) -> T:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except (OperationalError, InterfaceError) as error:
                # If a server dies between its commit and its answer, an event may come twice:
                # rather that than a lost hour of training.
                if time.monotonic() > end:
                    raise store_failure(error) or error from error
                time.sleep(_PAUSE_SECONDS)
