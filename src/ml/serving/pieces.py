"""The pieces of a stream, each of which comes in time.

A whole answer has a deadline, and so has the first piece of a stream. A stream that goes on may
take any time in all, because its client sees that it does; one that stands still ends when the
next piece takes as long as a whole answer may.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from ml.caller import renew_deadline
from ml.errors import DeadlineExceeded

__all__ = ["with_first"]


async def with_first(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield a piece that was waited for already, and the rest; none is empty.

    Raises `DeadlineExceeded` where the next one takes too long.
    """
    async with contextlib.aclosing(pieces):  # type: ignore[type-var]
        piece = first
        while piece:
            yield piece
            piece = await _next(pieces)


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    """Return the next piece, nothing behind the last."""
    seconds = renew_deadline()
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await anext(pieces, b"")
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(f"The stream stood still for {seconds:g} seconds.") from None
