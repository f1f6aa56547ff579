"""Server-sent events as a client gets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest

from ml.errors import InvalidInput, OutOfMemory, ServiceError
from ml.serving.event_stream import event, event_stream


def error_data(error: ServiceError) -> dict[str, str]:
    return {"error": error.description}


async def numbers(
    *, until: Exception | None = None, pause: float = 0
) -> AsyncGenerator[bytes, None]:
    for number in (1, 2):
        yield event({"number": number})
        await asyncio.sleep(pause)
    if until is not None:
        raise until


async def received(events: AsyncGenerator[bytes, None], **options: Any) -> list[bytes]:
    reply = await event_stream(events, error_data, **options)
    assert reply.content_type.startswith(b"text/event-stream")
    assert (b"x-accel-buffering", b"no") in reply.headers
    return [piece async for piece in cast(AsyncIterator[bytes], reply.body)]


ALL = [b'data: {"number":1}\n\n', b'data: {"number":2}\n\n']


async def test_events_are_sent_as_they_come() -> None:
    assert await received(numbers()) == ALL


async def test_a_long_pause_is_filled_with_comments_and_loses_nothing() -> None:
    pieces = await received(numbers(pause=0.1), heartbeat_seconds=0.02)
    assert [piece for piece in pieces if not piece.startswith(b":")] == ALL
    assert len(pieces) > len(ALL)


async def test_a_failure_behind_the_first_event_is_an_event() -> None:
    pieces = await received(numbers(until=OutOfMemory("too long")))
    assert pieces == [*ALL, b'event: error\ndata: {"error":"too long"}\n\n']


async def test_an_unknown_failure_tells_nothing_of_its_inside() -> None:
    pieces = await received(numbers(until=KeyError("secret")))
    assert pieces[:2] == ALL
    assert pieces[2].startswith(b"event: error\ndata: ")
    assert b"secret" not in pieces[2]


async def test_a_failure_before_the_first_event_is_raised() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        raise InvalidInput("no")
        yield b""

    with pytest.raises(InvalidInput):
        await event_stream(failing(), error_data)


async def test_closing_the_stream_closes_the_events_at_once() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            yield event(1)
            await asyncio.sleep(60)
        finally:
            closed.set()

    reply = await event_stream(endless(), error_data)
    body = cast(AsyncGenerator[bytes, None], reply.body)
    await anext(body)
    waiting = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await body.aclose()
    assert closed.is_set()
