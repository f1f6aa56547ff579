"""Events as they come: one look at the store for all subscribers of a job in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import islice

import structlog

from ml.errors import NotFound
from ml.jobs.job import JobEvent
from ml.jobs.store import JobStore

__all__ = ["Tails"]

#: The newest events are kept for all subscribers; whoever is further behind reads the store.
_KEPT, _PAGE = 2000, 500
_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class Tails:
    """Gives any number of subscribers the events of jobs. One for each process.

    `interval_seconds` is the time between two looks at the store for one job.
    """

    def __init__(self, store: JobStore, interval_seconds: float = 0.15) -> None:
        self._store = store
        self._interval_seconds = interval_seconds
        self._tails: dict[str, _Tail] = {}

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's events behind `after`, those that were and those that come, each once.

        Ends when the job has ended and all its events are given. Close it (`aclosing`) when you
        leave earlier. Raises `NotFound`.
        """
        await self._store.last_event(job_id)
        # No await between looking and putting: else each of many newcomers would make its own.
        tail = self._tails.get(job_id)
        if tail is None or tail.ended:  # one that ended knows nothing of a new attempt
            tail = self._tails[job_id] = _Tail(self._store, job_id, self._interval_seconds)
        tail.subscribers += 1
        try:
            async with aclosing(tail.follow(after)) as events:
                async for event in events:
                    yield event
        finally:
            tail.subscribers -= 1
            if not tail.subscribers:
                if self._tails.get(job_id) is tail:
                    del self._tails[job_id]
                await tail.close()


class _Tail:
    """Looks at one job's events until the job has ended."""

    def __init__(self, store: JobStore, job_id: str, interval_seconds: float) -> None:
        self.subscribers = 0
        self.ended = False
        self._store = store
        self._job_id = job_id
        self._interval_seconds = interval_seconds
        self._kept: deque[JobEvent] = deque(maxlen=_KEPT)
        self._last: int | None = None  # the id up to which `_kept` has everything
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._look(), name=f"tail of job {job_id}")

    async def close(self) -> None:
        """Stop looking."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def follow(self, after: int) -> AsyncGenerator[JobEvent, None]:
        """Yield the events behind `after` at the subscriber's own pace."""
        while True:
            changed, ended = self._changed, self.ended  # before reading, or a wake-up is lost
            events = self._since(after)
            if events is None:
                events = await self._stored(after)
            for event in events:
                yield event
                after = event.id
            if events:
                continue
            if ended:
                return
            await changed.wait()

    async def _stored(self, after: int) -> list[JobEvent]:
        """Return what `_since` would, from the store; waits while that is away."""
        while True:
            try:
                return list(await self._store.events(self._job_id, after, _PAGE))
            except Exception as error:
                await self._bear(error)

    async def _bear(self, error: Exception) -> None:
        """Wait a little for a database that restarts, which shows in many kinds of errors."""
        _log.warning("job_store_unavailable", error=str(error), job_id=self._job_id)
        await asyncio.sleep(_PAUSE_SECONDS)

    def _since(self, after: int) -> list[JobEvent] | None:
        """Return up to a page of the events behind `after`; None if they are not kept."""
        if self._last is None:
            return None
        skipped = after - (self._last - len(self._kept))
        if skipped < 0:
            return None
        return list(islice(self._kept, skipped, skipped + _PAGE))

    async def _look(self) -> None:
        try:
            while not self.ended:
                try:
                    await self._look_once()
                except NotFound:
                    raise
                except Exception as error:
                    await self._bear(error)
                await asyncio.sleep(self._interval_seconds)
        finally:
            self.ended = True  # also after a fault: no subscriber waits for ever
            self._wake()

    async def _look_once(self) -> None:
        # The state first: what is there once it is final is all that there will be.
        state, last = await self._store.last_event(self._job_id)
        if self._last is None:
            self._last = max(0, last - _KEPT)
        grown = self._last < last
        while self._last < last:
            new = await self._store.events(self._job_id, self._last, _PAGE)
            self._kept.extend(new)
            self._last = new[-1].id
        self.ended = state.is_final
        if grown or self.ended:
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
