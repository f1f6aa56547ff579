"""The threads that plain hooks run in, so that no event loop waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import TypeVar

from ml import caller

__all__ = ["iterate_in_thread", "run_in_thread"]

T = TypeVar("T")


async def run_in_thread(
    executor: Executor | None, function: Callable[[], T], flag: threading.Event
) -> T:
    """Return `function()`, run in a thread; `flag` is set when the caller is cancelled."""
    context = copy_context()
    context.run(caller.watch, flag)
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(executor, partial(context.run, _shielded, function))
    except asyncio.CancelledError:
        flag.set()
        raise


async def iterate_in_thread(executor: Executor | None, pieces: Iterator[str]) -> AsyncIterator[str]:
    """Yield the pieces, each made in a thread; a generator is closed with this one."""
    flag = threading.Event()
    close: Callable[[], None] = getattr(pieces, "close", lambda: None)
    inside = False

    def step() -> list[str]:
        piece = list(islice(pieces, 1))
        if flag.is_set():  # a generator can only be closed by the thread that is inside it
            close()
        return piece

    try:
        while True:
            inside = True
            piece = await run_in_thread(executor, step, flag)
            inside = False
            if not piece:
                return
            yield piece[0]
    finally:
        flag.set()
        if not inside:
            asyncio.get_running_loop().run_in_executor(executor, close)


def _shielded(function: Callable[[], T]) -> T:
    try:
        return function()
    except StopIteration as error:  # no future takes it, so its caller would wait for ever
        raise RuntimeError("a hook raised StopIteration") from error
