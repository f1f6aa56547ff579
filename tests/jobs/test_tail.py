"""Subscribers of a job's events: each gets every event once, in order, at its own pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from ml.errors import NotFound
from ml.jobs import tail
from ml.jobs.context import JobContext
from ml.jobs.event_type import EventType
from ml.jobs.job import JobState
from ml.jobs.store import JobStore
from ml.jobs.tail import Tails
from tests.jobs.conftest import ContextOf


@pytest.fixture
async def running(store: JobStore) -> JobStore:
    """A store whose job "a" runs, and has two events."""
    await store.create("some.kind", {}, "a")
    await store.claim_next("me")
    return store


@pytest.fixture
def context(running: JobStore, context_of: ContextOf) -> Iterator[JobContext]:
    """What the process of that job has."""
    with context_of("a") as context:
        yield context


async def ids(tails: Tails, after: int = 0, pause_seconds: float = 0) -> list[int]:
    seen = []
    async for event in tails.events("a", after):
        seen.append(event.id)
        await asyncio.sleep(pause_seconds)
    return seen


async def add(context: JobContext, count: int) -> None:
    for _ in range(count):
        await asyncio.to_thread(context.event, EventType.LOG, {})


async def test_many_subscribers_share_one_tail_and_miss_nothing(
    running: JobStore, context: JobContext
) -> None:
    tails = Tails(running, 0.02)
    early = [asyncio.create_task(ids(tails)) for _ in range(50)]
    await add(context, 20)
    late = [asyncio.create_task(ids(tails, after)) for after in (0, 5, 22)]
    await asyncio.sleep(0.1)
    assert len(tails._tails) == 1
    assert sum("tail of job a" in task.get_name() for task in asyncio.all_tasks()) == 1
    await add(context, 20)
    await running.transition("a", JobState.SUCCEEDED, result={})
    everything = list(range(1, 44))
    assert await asyncio.gather(*early) == [everything] * 50
    assert await asyncio.gather(*late) == [everything, everything[5:], everything[22:]]
    assert tails._tails == {}


async def test_of_a_job_that_has_ended_all_is_given_and_then_the_end(running: JobStore) -> None:
    await running.transition("a", JobState.FAILED, events=[(EventType.ERROR, {"message": "x"})])
    for after, expected in ((0, [1, 2, 3, 4]), (3, [4]), (4, []), (99, [])):
        assert await asyncio.wait_for(ids(Tails(running, 0.02), after), 5) == expected


async def test_a_slow_subscriber_holds_up_nobody_and_still_gets_everything(
    running: JobStore, context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_KEPT", 5)  # so that the slow one falls behind what is kept
    tails = Tails(running, 0.02)
    slow = asyncio.create_task(ids(tails, pause_seconds=0.1))
    fast = asyncio.create_task(ids(tails))
    await add(context, 30)
    await running.transition("a", JobState.SUCCEEDED, result={})
    assert await asyncio.wait_for(fast, 5) == list(range(1, 34))
    assert not slow.done()
    assert await asyncio.wait_for(slow, 10) == list(range(1, 34))


async def test_an_event_is_seen_soon(running: JobStore, context: JobContext) -> None:
    async with aclosing(Tails(running).events("a", 2)) as events:
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await add(context, 1)
        assert (await asyncio.wait_for(waiting, 5)).id == 3
        assert time.monotonic() - began < 4


async def test_the_tail_ends_with_its_last_subscriber(running: JobStore) -> None:
    tails = Tails(running, 0.02)
    leaving = asyncio.create_task(ids(tails))
    await asyncio.sleep(0.1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert tails._tails == {}
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("tail")]


async def test_a_new_attempt_is_followed_even_beside_who_still_reads_the_old_one(
    running: JobStore,
) -> None:
    tails = Tails(running, 0.02)
    slow = asyncio.create_task(ids(tails, pause_seconds=0.2))
    await running.transition("a", JobState.INTERRUPTED)
    await asyncio.sleep(0.2)
    await running.requeue("a")
    following = asyncio.create_task(ids(tails))
    await running.claim_next("me")
    await asyncio.sleep(0.1)
    await running.transition("a", JobState.SUCCEEDED, result={})
    assert await asyncio.wait_for(following, 5) == [1, 2, 3, 4, 5, 6]
    assert (await asyncio.wait_for(slow, 5))[:3] == [1, 2, 3]


async def test_an_unknown_job_has_no_events(store: JobStore) -> None:
    with pytest.raises(NotFound):
        await ids(Tails(store))
