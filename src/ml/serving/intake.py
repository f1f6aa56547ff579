"""How many request bodies are read at once, and how long each may take.

Bodies that are still on their way take no place of the workflow's, so that clients who send a byte
a second keep nobody out. What they may take is bounded here: when there are too many, or they hold
too many bytes, the one that began first is given up. Whoever sends at a usual pace is done long
before it is the first.
"""

from __future__ import annotations

import asyncio
import time

__all__ = ["Arriving", "Intake"]


class Intake:
    """The bodies that are being read."""

    def __init__(self, *, most_bodies: int, most_bytes: int, seconds: float) -> None:
        self.seconds = seconds
        self._most_bodies = most_bodies
        self._most_bytes = most_bytes
        self._bytes = 0
        self._arriving: dict[Arriving, None] = {}  # in the order in which they began

    @property
    def count(self) -> int:
        """Return how many bodies are being read."""
        return len(self._arriving)

    @property
    def held_bytes(self) -> int:
        """Return how many bytes of them are here."""
        return self._bytes

    def begin(self, counted_bytes: int) -> Arriving:
        """Begin to read a body, of which so many bytes count as held at most."""
        arriving = Arriving(self, counted_bytes)
        self._arriving[arriving] = None
        self._make_room()
        return arriving

    def _add(self, arriving: Arriving, size: int) -> None:
        if arriving in self._arriving:
            arriving.held += size
            self._bytes += size
            self._make_room()

    def _end(self, arriving: Arriving) -> None:
        if arriving in self._arriving:
            del self._arriving[arriving]
            self._bytes -= arriving.held

    def _make_room(self) -> None:
        while len(self._arriving) > self._most_bodies or self._bytes > self._most_bytes:
            first = next(iter(self._arriving))
            self._end(first)
            first.give_up()


class Arriving:
    """A body on its way: when it has to be here, and what of it is."""

    def __init__(self, intake: Intake, counted_bytes: int) -> None:
        self.size = 0
        self.held = 0
        self._intake = intake
        self._counted_bytes = counted_bytes
        self._due = time.monotonic() + intake.seconds
        self._waiting: asyncio.Timeout | None = None

    def limit(self) -> asyncio.Timeout:
        """Return the time limit for the next part: the whole body's.

        A body beyond the bytes that count, which goes to a disk, has as much time for each as many.
        """
        late = self._intake.seconds * (self.size // (self._counted_bytes + 1))
        left = self._due + late - time.monotonic()
        self._waiting = asyncio.timeout(max(0.0, left))
        return self._waiting

    def add(self, size: int) -> None:
        """Say that so many more bytes are here."""
        self._waiting = None
        counted = min(size, max(0, self._counted_bytes - self.size))
        self.size += size
        self._intake._add(self, counted)

    def end(self) -> None:
        """Say that nothing more is read of it."""
        self._waiting = None
        self._intake._end(self)

    def give_up(self) -> None:
        """Let its time be over now."""
        self._due = 0.0
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())
