"""What a job's own process works with: its record, its folder, its events, and whether to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from ml.jobs import liveness, records
from ml.jobs.assignment import Assignment
from ml.jobs.database import plain, store_failure, sync_engine
from ml.jobs.event_type import EventType, NewEvent
from ml.jobs.events import Superseded, add_events
from ml.jobs.job import Job, JobState, StopRequest

__all__ = ["JobContext", "Stopped"]

#: How often a job shows that it lives, and asks whether it is to stop.
HEARTBEAT_SECONDS = 1.0
#: How long a write waits for a store that restarts, or whose disk is full, before it fails.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 30.0, 0.5

T = TypeVar("T")


class Stopped(Exception):
    """The work ended early because it was asked to, after it had saved what it had."""


class JobContext:
    """A running job for the one process that does this attempt of it: `run(context)` gets it.

        with JobContext(Assignment.from_environment(), job_id) as context:
            ...

    The folder is there, and signs of life are shown, inside of the block. Once the job has ended
    or another attempt of it began, writing raises `Superseded`; where the store cannot be written
    for half a minute, `StorageFull` or `StorageUnavailable`. Methods may be called from any thread.

    Attributes:
        on_superseded: called before `Superseded` is raised, by whichever thread.
        job: the record as it was when this attempt began; `job.attempt` is 1 for the first.
        folder: the job's working folder, in which is what an earlier attempt left.
    """

    def __init__(self, assignment: Assignment, job_id: str) -> None:
        self.folder = assignment.folder
        self._engine = sync_engine(assignment.store_url)
        self.on_superseded: Callable[[], object] = self.interrupt
        self._interrupted = False
        self.job: Job = self._write(lambda connection: records.get(connection, job_id))
        if assignment.attempt not in (None, self.job.attempt):
            raise Superseded(job_id)
        self._asked: StopRequest | None = None
        self._left = threading.Event()
        self._heart = threading.Thread(target=self._live, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._heart.join()
        self._engine.dispose()

    # --- for the work -------------------------------------------------------------------------

    def event(self, type: EventType, data: dict[str, Any]) -> None:  # noqa: A002
        """Append an event. When this returns, the event outlives any crash of this process."""
        new = [(type, data)]
        self._write(lambda connection: add_events(connection, self.job.id, new, self.job.attempt))

    def progress(self, **numbers: Any) -> None:
        """Replace the record's progress by these newest numbers."""
        self._beat(progress=plain(numbers))

    def stop_request(self) -> StopRequest | None:
        """Return what the job is asked for; it costs nothing, so ask at every step.

        Work that finds something here saves what it has and raises `Stopped`.
        """
        if self._asked is StopRequest.CANCEL or not self._interrupted:
            return self._asked
        return StopRequest.INTERRUPT

    # --- for the process ----------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ask the work to save and end, because this process was told to; safe in a handler."""
        self._interrupted = True

    def introduce(self, process: dict[str, Any]) -> None:
        """Say which process this is; of one attempt only the first may."""
        self._write(
            lambda connection: liveness.take(connection, self.job.id, self.job.attempt, process)
        )

    def ask(self) -> StopRequest | None:
        """Return what the job is asked for by now, in the store or by `interrupt`."""
        self._asked = self._beat()
        return self.stop_request()

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

    def _live(self) -> None:
        while not self._left.wait(HEARTBEAT_SECONDS):
            try:
                self.ask()
            except Superseded:
                return  # nothing it does counts any more
            except Exception as error:  # the store may be away for a while; the work goes on
                with suppress(OSError):  # of a full disk, on which the log file is
                    print(f"no heartbeat: {error}", flush=True)  # noqa: T201

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
            except Superseded:
                self.on_superseded()
                raise
            except (OperationalError, InterfaceError) as error:
                # If a server dies between its commit and its answer, an event may come twice:
                # rather that than a lost hour of training.
                if time.monotonic() > end:
                    raise store_failure(error) or error from error
                time.sleep(_PAUSE_SECONDS)
