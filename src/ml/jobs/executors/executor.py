"""What starts the processes of jobs, here or elsewhere, and knows when they ended."""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

from ml.jobs import child
from ml.jobs.event_type import NewEvent
from ml.jobs.job import Job
from ml.jobs.settings import JobSettings

__all__ = ["Executor", "Exit"]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended that left its job running.

    Attributes:
        reason: for a person.
        resumable: it was told to end, or its host went down: the job itself is not at fault.
        events: what is told about it, such as its last log lines.
    """

    reason: str
    resumable: bool = False
    events: tuple[NewEvent, ...] = ()

    @classmethod
    def of_code(
        cls, code: int, foreign: Collection[signal.Signals], events: Iterable[NewEvent] = ()
    ) -> Self:
        """Return the end of a process with an exit code, which is negative for a signal.

        `foreign` are the signals that do not speak against the job.
        """
        number = signal.Signals(-code) if code < 0 else None
        if code == child.STORE_IS_AWAY:
            reason = "It could not reach the job store or its files, or a disk is full."
        elif number is None:
            reason = f"Its process ended with exit code {code} and no result."
        else:
            reason = f"Its process was killed by {number.name}"
            reason += ", probably out of memory." if number is signal.SIGKILL else "."
        return cls(reason, code == child.STORE_IS_AWAY or number in foreign, tuple(events))


class Executor(Protocol):
    """Runs `python -m ml.jobs.child <id>` with an `Assignment` for each job that it is given.

    Args:
        store_url: where the jobs' processes find their records, as `JobStore.url` has it.
        folder: jobs work in `folder/<id>`.
        environment: variables for the jobs' processes, beside those of this one.
    """

    #: Whether its jobs go on when this process ends, and are found again by the next one.
    outlives_service: ClassVar[bool] = False

    def __init__(
        self,
        store_url: str,
        folder: Path,
        settings: JobSettings,
        environment: Mapping[str, str],
        files_url: str | None = None,
    ) -> None:
        """Jobs work in folders below `folder`; with `files_url`, their hosts need not share it."""

    async def open(self) -> None:
        """Reach what runs the jobs, before any is given.

        Raises `ConfigurationError`, or `NotReady` where it may be there a little later.
        """

    async def close(self) -> None:
        """Let go of what runs the jobs, once the own ones have ended."""

    async def start(self, job: Job) -> None:
        """Start the process of a job that was just claimed; raises `OSError` if it cannot."""

    async def ended(self, job: Job) -> Exit | None:
        """Return how the process of a running job ended; None while it runs, or may."""

    async def interrupt(self, job_id: str) -> None:
        """Tell an own job's process to save and end."""

    async def kill(self, job: Job) -> None:
        """End a job's process and all that it started, at once."""

    async def release(self, job: Job) -> None:
        """Let go of the process of an own job that ended; called until it is gone."""

    def own(self) -> Collection[str]:
        """Return the ids of the jobs that this process looks after until they have ended."""
        ...
