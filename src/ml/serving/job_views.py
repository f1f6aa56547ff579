"""How jobs and their events look over HTTP, whatever they do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from ml.jobs.job import Job, JobEvent, JobState
from ml.serving.answers import EventStream

__all__ = [
    "EventHistory",
    "JobEvents",
    "JobList",
    "JobRecord",
    "event_view",
    "job_view",
    "timestamp",
]


class JobRecord(BaseModel, extra="allow"):
    """The job: its id and status, what it has done, and its result once that is there."""

    job_id: str
    status: JobState
    progress: dict[str, Any] = Field(default={}, description="Its stage, step, numbers")
    error: str | None = Field(default=None, description="Why it failed")
    reason: str | None = Field(default=None, description="Why it ended, or waits")
    position: int | None = Field(default=None, description="Its place in the queue")
    resumable: bool | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    result: dict[str, Any] | None = None
    message: str | None = Field(default=None, description="What was done to it just now")


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobRecord]


class EventRecord(BaseModel):
    """Something that happened to a job."""

    id: int
    type: str
    created_at: datetime
    data: Any


class EventHistory(BaseModel):
    """Events of a job, in their order."""

    job_id: str
    status: JobState
    events: list[EventRecord]


class JobEvents(EventStream):
    """A job's events as they come; the first is `init`, with the job as it is."""


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
