"""How jobs and their events look over HTTP, whatever they do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import orjson
from quart import Response, request

from ml.errors import InvalidInput
from ml.jobs.job import Job, JobEvent, JobState
from ml.serving.event_stream import with_heartbeats
from ml.serving.reply import STREAM_HEADERS

__all__ = ["event_response", "event_view", "job_view", "last_event_id", "timestamp"]


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
