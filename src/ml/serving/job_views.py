"""How jobs and their events look over HTTP, whatever they do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import RootModel

from ml.jobs.job import Job, JobEvent, JobState

__all__ = ["JobRecord", "event_view", "job_view", "timestamp"]


class JobRecord(RootModel[dict[str, Any]]):
    """The job: its id and status, what it has done, and its result once that is there."""


def timestamp(seconds: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def job_view(job: Job, position: int | None = None) -> dict[str, Any]:
    """Return a job's record; `position` is its place in the queue."""
    return {
        "job_id": job.id,
        "status": job.state.value,
        "progress": job.progress,
        "error": job.reason if job.state is JobState.FAILED else None,
        "reason": job.reason,
        "position": position,
        "stop": job.stop,
        "attempt": job.attempt,
        "resumable": job.state.may_become(JobState.QUEUED),
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "ended_at": timestamp(job.ended_at),
        "request": job.request,
        "result": job.result,
    }


def event_view(event: JobEvent) -> dict[str, Any]:
    """Return an event as history lists it."""
    return {
        "id": event.id,
        "type": event.type,
        "created_at": timestamp(event.created_at),
        "data": event.data,
    }
