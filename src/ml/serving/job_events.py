"""The events of jobs over HTTP: as they come, and those that were."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from quart import Response, request

from ml.errors import InvalidInput
from ml.jobs.event_type import EventType
from ml.jobs.job import Job, JobEvent
from ml.jobs.thinning import thinned_events
from ml.serving.event_stream import with_heartbeats
from ml.serving.job_views import event_view
from ml.serving.paging import asked_number
from ml.serving.reply import STREAM_HEADERS

if TYPE_CHECKING:
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails

__all__ = ["event_history", "stream_events"]

#: The most events of a history's page.
_MOST_EVENTS = 1000
#: The fewest and the most events of progress that a stream can be thinned to.
_POINTS = (500, 10_000)


async def event_history(store: JobStore, job_id: str) -> dict[str, Any]:
    """Return a job's events behind those that the client has, a thousand at most."""
    job = await store.get(job_id)
    events = await store.events(job_id, _last_event_id(), _MOST_EVENTS)
    return {
        "job_id": job.id,
        "status": job.state.value,
        "events": [event_view(event) for event in events],
    }


async def stream_events(
    store: JobStore, tails: Tails, job_id: str, view: Callable[[Job], Awaitable[dict[str, Any]]]
) -> Response:
    """Return a job's events as server-sent ones, behind those that the client has.

    The first is an `init` event without an id: the job as it is now. With `?points=`, those that
    were are thinned to so many of progress; those that come are not.
    """
    after, points = _last_event_id(), asked_number("points", *_POINTS)
    state, last = await store.last_event(job_id)
    if state.is_final and after and after >= last:
        return Response(status=204)  # which tells an EventSource not to come again
    past: list[JobEvent] = []
    if points and last - after > points:
        past = await thinned_events(store, job_id, after, last, points)
        after = last
    following = tails.events(job_id, after)
    record = await view(await store.get(job_id))
    beginning = [
        b"".join((_head(EventType.INIT), orjson.dumps(record), b"\n\n", *map(_event, past)))
    ]
    events = _encoded(beginning, following)
    response = Response(with_heartbeats(events), content_type="text/event-stream; charset=utf-8")
    response.timeout = None  # else Quart cuts it after a minute
    for name, value in STREAM_HEADERS:
        response.headers[name.decode()] = value.decode()
    return response


async def _encoded(
    beginning: list[bytes], following: AsyncGenerator[JobEvent, None]
) -> AsyncGenerator[bytes, None]:
    yield beginning.pop()  # not kept for as long as the stream goes on
    async with contextlib.aclosing(following) as events:  # a client may leave before the end
        async for event in events:
            yield _event(event)


def _event(event: JobEvent) -> bytes:
    head = f"id: {event.id}\n".encode() + _head(event.type)
    return head + orjson.dumps(event.data) + b"\n\n"


def _last_event_id() -> int:
    """Return the id of the last event that the client has: `Last-Event-ID` or `?after=`.

    An EventSource that comes again still has the `?after=` with which it came first.
    """
    text = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput("after: give the id of an event, a whole number")
    return int(text)


def _head(type_: str) -> bytes:
    return f"event: {type_}\ndata: ".encode()
