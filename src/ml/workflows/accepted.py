"""Answers that come later: where the caller can be told of a job, a workflow may return one.

async def do_run_model(self, data):
    if takes_jobs() and self.takes_too_long(data):  # of ml.caller
        return Accepted(await self.submit(data))
    ...
"""

from __future__ import annotations

from dataclasses import dataclass

from ml.jobs.job import Job

__all__ = ["Accepted"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a workflow returns instead of its output: the job whose result that will be."""

    job: Job
