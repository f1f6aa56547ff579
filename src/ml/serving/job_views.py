"""How jobs and their events look over HTTP, whatever they do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from quart import Response, request

from ml.errors import InvalidInput
from ml.jobs.job import Job, JobEvent, JobState
from ml.serving.event_stream import with_heartbeats
from ml.serving.reply import STREAM_HEADERS

if TYPE_CHECKING:
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails

__all__ = [
    "JobView",
    "event_history",
    "event_response",
    "event_view",
    "job_view",
    "last_event_id",
    "page_limit",
    "stream_events",
    "timestamp",
    "view_of",
]

#: The most events of a history's page, and jobs of a list's.
_MOST_EVENTS, _MOST_JOBS = 1000, 100


class JobView(Protocol):
    """Shows a job with its place in the queue, as `job_view` does."""

    def __call__(self, job: Job, *, position: int | None = None) -> dict[str, Any]:
        """Return plain JSON data."""


def timestamp(seconds: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def job_view(job: Job, *, position: int | None = None) -> dict[str, Any]:
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


async def view_of(jobs: JobStore, job: Job, view: JobView = job_view) -> dict[str, Any]:
    """Return a job with its place in the queue."""
    waits = job.state is JobState.QUEUED
    return view(job, position=await jobs.position(job.id) if waits else None)


def event_view(event: JobEvent) -> dict[str, Any]:
    """Return an event as history lists it."""
    return {
        "id": event.id,
        "type": event.type,
        "created_at": timestamp(event.created_at),
        "data": event.data,
    }


def last_event_id() -> int:
    """Return the id of the last event that the client has: `?after=` or `Last-Event-ID`."""
    text = request.args.get("after") or request.headers.get("Last-Event-ID") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput("after: give the id of an event, a whole number")
    return int(text)


def page_limit(default: int = _MOST_JOBS, *, most: int = _MOST_JOBS) -> int:
    """Return how many entries a list shall have: `?limit=`. Raises `InvalidInput`."""
    text = request.args.get("limit", str(default))
    is_number = text.isascii() and text.isdigit() and len(text) < 19
    if not is_number or not 1 <= int(text) <= most:
        raise InvalidInput(f"limit: give a whole number from 1 to {most}")
    return int(text)


async def event_history(jobs: JobStore, job_id: str) -> dict[str, Any]:
    """Return a job's events behind those that the client has, a thousand at most."""
    job = await jobs.get(job_id)
    events = await jobs.events(job_id, last_event_id(), _MOST_EVENTS)
    return {
        "job_id": job.id,
        "status": job.state.value,
        "events": [event_view(event) for event in events],
    }


async def stream_events(
    jobs: JobStore, tails: Tails, job_id: str, view: JobView = job_view
) -> Response:
    """Return a job's events as server-sent ones, behind those that the client has."""
    after = last_event_id()
    state, last = await jobs.last_event(job_id)
    if state.is_final and after and after >= last:
        return Response(status=204)  # which tells an EventSource not to come again
    first = await view_of(jobs, await jobs.get(job_id), view)
    return event_response(tails.events(job_id, after), first)


def event_response(
    events: AsyncGenerator[JobEvent, None], first: dict[str, Any] | None = None
) -> Response:
    """Return a stream of server-sent events; `first` is an `init` event without an id."""
    response = Response(
        with_heartbeats(_encoded(events, first)), content_type="text/event-stream; charset=utf-8"
    )
    response.timeout = None  # else Quart cuts it after a minute
    for name, value in STREAM_HEADERS:
        response.headers[name.decode()] = value.decode()
    return response


async def _encoded(
    events: AsyncGenerator[JobEvent, None], first: dict[str, Any] | None
) -> AsyncGenerator[bytes, None]:
    if first is not None:
        yield b"event: init\ndata: " + orjson.dumps(first) + b"\n\n"
    async with contextlib.aclosing(events):  # a client may leave before the end
        async for event in events:
            head = f"id: {event.id}\nevent: {event.type}\ndata: ".encode()
            yield head + orjson.dumps(event.data) + b"\n\n"
