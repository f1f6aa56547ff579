"""Several generators read as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

__all__ = ["merged"]

T = TypeVar("T")


async def merged(
    generators: Sequence[AsyncGenerator[T, None]],
) -> AsyncGenerator[tuple[int, T], None]:
    """Yield what generators yield as it comes, with the number of its generator.

    All are closed with this one, and when one of them fails.
    """
    async with contextlib.AsyncExitStack() as closing:
        for generator in generators:
            closing.push_async_callback(generator.aclose)
        if len(generators) == 1:  # spares a task for each item
            async for item in generators[0]:
                yield 0, item
            return
        waiting = {asyncio.ensure_future(anext(g)): n for n, g in enumerate(generators)}
        try:
            while waiting:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in waiting if task.done()]:
                    number = waiting.pop(task)
                    try:
                        item = task.result()
                    except StopAsyncIteration:
                        continue
                    waiting[asyncio.ensure_future(anext(generators[number]))] = number
                    yield number, item
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
