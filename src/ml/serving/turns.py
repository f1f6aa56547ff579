"""Lets requests begin a few at a time, so that a probe never waits behind a flood of them."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]

#: Requests that begin in one pass of the event loop; a small one runs a tenth of a millisecond.
_AT_ONCE = 8


class Turns:
    """The order in which requests begin.

    An event loop runs all that became ready before it looks for what is new. With a thousand
    requests ready, whatever comes next, a probe too, would wait for a thousand of them. In turns,
    it waits for a few: those behind them only stand in line.
    """

    def __init__(self) -> None:
        self._left = _AT_ONCE
        self._line: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def wait(self) -> None:
        """Return when the caller may begin; at once while few do."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next_pass)
        if self._left > 0:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        await turn

    def _next_pass(self) -> None:
        self._left = _AT_ONCE
        while self._line and self._left > 0:
            turn = self._line.popleft()
            if not turn.done():  # its request may have been cancelled
                turn.set_result(None)
                self._left -= 1
        self._is_counting = bool(self._line)
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._next_pass)
