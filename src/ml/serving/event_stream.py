"""Server-sent events: framing, heartbeats, and an honest end.

Source: the HTML standard, "Server-sent events". Heartbeats are comments, which clients skip; an
event that means nothing would break those that parse each one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

import orjson
import structlog

from ml.errors import InternalError, ServiceError
from ml.serving.pieces import with_first
from ml.serving.reply import STREAM_HEADERS, Reply

__all__ = ["event", "event_stream", "with_heartbeats"]

log = structlog.get_logger(__name__)

_HEARTBEAT_SECONDS = 15.0
_EVENT_STREAM = b"text/event-stream; charset=utf-8"


def event(data: object, *, name: str | None = None) -> bytes:
    """Return one event with this JSON as its data."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + orjson.dumps(data) + b"\n\n"


async def event_stream(
    events: AsyncGenerator[bytes, None],
    error_data: Callable[[ServiceError], object],
    *,
    heartbeat_seconds: float = _HEARTBEAT_SECONDS,
) -> Reply:
    """Return the reply that sends these events, and a comment whenever none came for a while.

    The first one is awaited here, so that a failure before it has an HTTP status of its own. A
    later failure is sent as an event named "error" with `error_data(error)`, and ends the stream.
    """
    try:
        first = await anext(events, b"")
    except BaseException:
        await events.aclose()
        raise
    body = with_heartbeats(_with_honest_end(first, events, error_data), heartbeat_seconds)
    return Reply(200, body, _EVENT_STREAM, list(STREAM_HEADERS))


async def _with_honest_end(
    first: bytes,
    events: AsyncGenerator[bytes, None],
    error_data: Callable[[ServiceError], object],
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(with_first(first, events)) as all_events:
        try:
            async for one in all_events:
                yield one
        except ServiceError as error:
            yield event(error_data(error), name="error")
        except Exception:
            log.exception("stream_failed")
            yield event(error_data(InternalError()), name="error")


async def with_heartbeats(
    events: AsyncGenerator[bytes, None], seconds: float = _HEARTBEAT_SECONDS
) -> AsyncGenerator[bytes, None]:
    """Yield the events, and a comment whenever none came for so long."""
    next_event: asyncio.Task[bytes] | None = None
    try:
        while True:
            next_event = asyncio.ensure_future(anext(events, b""))
            while not (await asyncio.wait({next_event}, timeout=seconds))[0]:
                yield b": still at work\n\n"
            one = next_event.result()
            if not one:
                return
            yield one
    finally:
        if next_event is not None and not next_event.done():
            next_event.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await next_event
        await events.aclose()
