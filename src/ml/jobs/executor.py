"""What starts the processes of jobs, here or elsewhere, and knows when they ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from ml.jobs.events import NewEvent
from ml.jobs.job import Job

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


class Executor(Protocol):
    """Runs `python -m ml.jobs.child <id>` for each job that it is given."""

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
        """Return the ids of the jobs whose processes would end with this one's."""
