"""How many requests a worker takes on at once, and who waits for a place."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from ml.errors import Overloaded

__all__ = ["Admission"]

#: Beyond so many, each with a body of up to 64 KiB, whoever waits longest is refused.
_MOST_WAITING = 2048
#: Refusals in one pass of the event loop, so that a probe never waits for all that are due.
_AT_ONCE = 8


class Admission:
    """Counts the requests in flight; those beyond the limit wait in line, the newest in front.

    A flood is not refused as fast as it comes: its clients would ask again at once, and telling
    them so would take the time of those who have a place. Each waits `wait_seconds` before it is
    refused. The newest goes first (adaptive LIFO, as in Maurer, "Fail at Scale", ACM Queue 2015):
    what can be answered is answered soon, and not all of it just before its client gives up.
    """

    def __init__(self, limit: int, wait_seconds: float) -> None:
        self.limit = limit
        self.in_flight = 0
        self._wait_seconds = wait_seconds
        #: The longest wait first; those that left the line are done.
        self._line: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._clock: asyncio.TimerHandle | None = None

    def require_place(self) -> None:
        """Raise `Overloaded` when all places are taken."""
        if self.in_flight >= self.limit:
            raise self._refusal()

    def enter_now(self) -> None:
        """Take a place; raises `Overloaded` when there is none. `leave` gives it back."""
        self.require_place()
        self.in_flight += 1

    async def enter(self) -> float:
        """Take a place as `enter_now` does, or wait for one, which may end in `Overloaded` too.

        Returns the seconds that it waited.
        """
        if self.in_flight < self.limit or not self._wait_seconds:
            self.enter_now()
            return 0.0
        started = time.monotonic()
        place = self._stand_in_line()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave()  # it was given just now
            raise
        return time.monotonic() - started

    def leave(self) -> None:
        """Give the place back: to the newest in line, where one waits."""
        while self._line:
            _, place = self._line.pop()
            if not place.done():
                place.set_result(None)
                return
        self.in_flight -= 1

    def count(self) -> int:
        """Return the number of requests in flight."""
        return self.in_flight

    @property
    def waiting(self) -> int:
        """Return the number of requests in line."""
        return sum(not place.done() for _, place in self._line)

    @property
    def is_full(self) -> bool:
        """Whether the next request would have to wait."""
        return self.in_flight >= self.limit

    def _refusal(self) -> Overloaded:
        return Overloaded(
            f"All {self.limit} places are taken; try again shortly.", retry_after_seconds=1
        )

    def _stand_in_line(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        due = loop.time() + self._wait_seconds
        self._line.append((due, place))
        if len(self._line) > _MOST_WAITING:
            self._refuse_first()
        if self._clock is None:
            self._clock = loop.call_at(due, self._refuse_late)
        return place

    def _refuse_first(self) -> None:
        _, place = self._line.popleft()
        if not place.done():
            place.set_exception(self._refusal())

    def _refuse_late(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            if not self._line or self._line[0][0] > loop.time():
                break
            self._refuse_first()
        self._clock = loop.call_at(self._line[0][0], self._refuse_late) if self._line else None
