"""The events of jobs over HTTP: as they come, and those that were."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

import orjson
from pydantic import Field
from quart import Response, request

from ml.errors import InvalidInput
from ml.jobs.event_type import EventType
from ml.jobs.job import Job, JobEvent
from ml.json_text import JsonObject
from ml.serving.event_stream import with_heartbeats
from ml.serving.job_views import event_view
from ml.serving.query import Query
from ml.serving.reply import STREAM_HEADERS

if TYPE_CHECKING:
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails

__all__ = ["EventsQuery", "HistoryQuery", "event_history", "stream_events"]

#: The most events of a history's page.
_MOST_EVENTS = 1000


class HistoryQuery(Query):
    """Where a job's events begin."""

    after: int = Field(
        default=0, ge=0, le=10**18, description="The id of the last event that you have"
    )


class EventsQuery(HistoryQuery):
    """Where a stream of a job's events begins, and how many there are."""

    points: int | None = Field(
        default=None,
        ge=500,
        le=10_000,
        description="Of the `progress` that was, as many events as that, with the peaks and dips "
        "of each stretch; by default all",
    )


async def event_history(store: JobStore, job_id: str) -> JsonObject:
    """Return a job's events behind those that the client has, a thousand at most."""
    job = await store.get(job_id)
    events = await store.events(job_id, _last_event_id(HistoryQuery.asked()), _MOST_EVENTS)
    return {
        "job_id": job.id,
        "status": job.state.value,
        "events": [event_view(event) for event in events],
    }


async def stream_events(
    store: JobStore, tails: Tails, job_id: str, view: Callable[[Job], Awaitable[JsonObject]]
) -> Response:
    """Return a job's events as server-sent ones, behind those that the client has.

    The first is an `init` event without an id: the job as it is now. With `points`, those that
    were are thinned to so many of progress; those that come are not.
    """
    from ml.jobs.thinning import thinned_events  # loads the database's library

    query = EventsQuery.asked()
    after, points = _last_event_id(query), query.points
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


def _last_event_id(query: HistoryQuery) -> int:
    """Return the id of the last event that the client has.

    An EventSource that comes again still has the `after` with which it came first.
    """
    text = request.headers.get("Last-Event-ID")
    if not text:
        return query.after
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput("Last-Event-ID: give the id of an event, a whole number")
    return int(text)


def _head(type_: str) -> bytes:
    return f"event: {type_}\ndata: ".encode()
