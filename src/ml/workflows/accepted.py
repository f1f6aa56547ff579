"""Answers that come later: where the caller can be told of a job, a workflow may return one.

async def do_run_model(self, data):
    if takes_jobs() and self.takes_too_long(data):
        return Accepted(await self.submit(data))
    ...
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from ml.jobs.job import Job

__all__ = ["Accepted", "set_takes_jobs", "takes_jobs"]

_takes_jobs: ContextVar[bool] = ContextVar("takes_jobs", default=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a workflow returns instead of its output: the job whose result that will be."""

    job: Job


def set_takes_jobs(value: bool) -> None:
    """Say whether the caller for whom the current task works can be answered with a job."""
    _takes_jobs.set(value)


def takes_jobs() -> bool:
    """Return whether the caller can be answered with a job; by default none can."""
    return _takes_jobs.get()
