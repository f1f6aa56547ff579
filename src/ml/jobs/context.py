"""What a job's own process works with: its record, its folder, its events, and whether to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ml.jobs.events import Superseded
from ml.jobs.job import Job, StopRequest
from ml.jobs.own_job import OwnJob

__all__ = ["JobContext", "Stopped"]

#: How often a job shows that it lives, and asks whether it is to stop.
HEARTBEAT_SECONDS = 1.0


class Stopped(Exception):
    """The work ended early because it was asked to, after it had saved what it had."""


class JobContext:
    """What the `run(context)` of a job's kind gets. Its methods may be called from any thread.

    Attributes:
        job: the record as it was when this attempt began; `job.attempt` is 1 for the first.
        folder: the job's working folder. It exists, and what an earlier attempt left is in it.
    """

    def __init__(self, own_job: OwnJob, folder: Path) -> None:
        self.job: Job = own_job.job
        self.folder = folder
        self._own_job = own_job
        self._asked: StopRequest | None = None
        self._interrupted = False

    @classmethod
    @contextmanager
    def open(cls, own_job: OwnJob, folder: Path) -> Iterator[JobContext]:
        """Make the folder, and show signs of life until the block ends."""
        folder.mkdir(parents=True, exist_ok=True)
        context = cls(own_job, folder)
        ended = threading.Event()
        heart = threading.Thread(target=context._beat, args=(ended,), daemon=True)
        heart.start()
        try:
            yield context
        finally:
            ended.set()
            heart.join()

    def event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002
        """Append an event. When this returns, the event outlives any crash of this process."""
        self._own_job.add_event(type, data)

    def progress(self, **numbers: Any) -> None:
        """Replace the record's progress by these newest numbers."""
        self._own_job.set_progress(numbers)

    def stop_request(self) -> StopRequest | None:
        """Return what the job is asked for; it costs nothing, so ask at every step.

        Work that finds something here saves what it has and raises `Stopped`.
        """
        if self._asked is StopRequest.CANCEL or not self._interrupted:
            return self._asked
        return StopRequest.INTERRUPT

    def interrupt(self) -> None:
        """Ask the work to save and end, because this process was told to; safe in a handler."""
        self._interrupted = True

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                self._asked = self._own_job.heartbeat()
            except Superseded:
                self._interrupted = True  # nothing it does counts any more
            except Exception as error:  # the store may be away for a while; the work goes on
                with suppress(OSError):  # of a full disk, on which the log file is
                    print(f"no heartbeat: {error}", flush=True)  # noqa: T201
