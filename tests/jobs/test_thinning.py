"""A long job's events are thinned to what a chart can show, on stores of both kinds."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from sqlalchemy import delete

from ml.jobs import schema
from ml.jobs.database import sync_engine
from ml.jobs.event_type import EventType, NewEvent
from ml.jobs.events import add_events
from ml.jobs.job import JobEvent
from ml.jobs.store import JobStore
from ml.jobs.stretches import LENGTH
from ml.jobs.thinning import thinned_events

MOST = 500


async def thinned(store: JobStore, new: list[NewEvent], *, after: int = 0) -> list[JobEvent]:
    """Return what stays of a job's events, of which the first is that it was queued."""
    await store.create("some.kind", {}, "a")

    def add() -> None:
        engine = sync_engine(store.url)
        with engine.begin() as connection:
            add_events(connection, "a", new)
        engine.dispose()

    await asyncio.to_thread(add)
    _, last = await store.last_event("a")
    return await thinned_events(store, "a", after, last, MOST)


def step(number: int, **numbers: Any) -> NewEvent:
    return EventType.PROGRESS, {"step": number, "loss": 2.0 + number % 7, **numbers}


def steps_of(events: list[JobEvent]) -> list[int]:
    return [event.data["step"] for event in events if event.type == EventType.PROGRESS]


async def test_no_peak_and_no_dip_is_lost_and_the_newest_stay_whole(store: JobStore) -> None:
    peaks = {
        3001: {"loss": 99.0},
        4002: {"loss": 0.1},
        5003: {"grad_norm": 77.0},
        6004: {"memory_bytes": 2**40},
        7005: {"loss": None, "eval_loss": 1.5},
    }
    all_steps = range(1, 12_001)
    kept = await thinned(store, [step(n, **peaks.get(n, {})) for n in all_steps])
    ids = [event.id for event in kept]
    assert ids == sorted(set(ids))
    steps = steps_of(kept)
    assert len(steps) <= MOST
    assert peaks.keys() <= set(steps)
    assert (steps[0], steps[-300:]) == (1, list(all_steps[-300:]))
    assert {event.id: event.data for event in kept}[3002] == step(3001, loss=99.0)[1]
    widest = max(b - a for a, b in pairwise(steps))
    assert widest < 2 * 12_000 / 19  # no stretch is without a point


async def test_where_a_resumed_job_goes_back_the_step_stays_from_which_charts_forget(
    store: JobStore,
) -> None:
    attempts = [*range(1, 4001), *range(2345, 6001), *range(5123, 9001)]
    steps = steps_of(await thinned(store, [step(n) for n in attempts]))
    assert [b for a, b in pairwise(steps) if b < a] == [2345, 5123]


async def test_of_the_other_events_the_first_and_the_newest_stay(store: JobStore) -> None:
    logs: list[NewEvent] = [(EventType.LOG, {"message": str(n)}) for n in range(3000)]
    steps = [step(n) for n in range(1, 3001)]
    both = [event for pair in zip(steps, logs, strict=True) for event in pair]
    kept = [event for event in await thinned(store, both) if event.type != EventType.PROGRESS]
    messages = [event.data.get("message") for event in kept]
    assert kept[0].data["state"] == "queued"
    assert messages[1:100] == [str(n) for n in range(99)]
    assert messages[100:] == [str(n) for n in range(2500, 3000)]


async def test_what_a_reader_has_is_not_told_again_and_what_is_no_number_is_passed_over(
    store: JobStore,
) -> None:
    odd = [step(n, loss="high" if n % 2 else [1.0], grad_norm=float(n)) for n in range(1, 2001)]
    kept = await thinned(store, odd, after=1001)
    assert steps_of(kept)[0] == 1001
    assert len(steps_of(kept)) <= MOST


async def again(store: JobStore, *forgotten: Any) -> list[JobEvent]:
    """Return what stays of the same job's events once these rows are gone."""

    def forget() -> None:
        engine = sync_engine(store.url)
        with engine.begin() as connection:
            for rows in forgotten:
                connection.execute(rows)
        engine.dispose()

    await asyncio.to_thread(forget)
    _, last = await store.last_event("a")
    return await thinned_events(store, "a", 0, last, MOST)


PEAKS = {2001: {"loss": 99.0}, 3002: {"loss": -1.0}, 9003: {"grad_norm": 77.0}}


async def test_of_a_long_job_no_event_is_read_that_is_neither_new_nor_a_candidate(
    store: JobStore,
) -> None:
    kept = await thinned(store, [step(n, **PEAKS.get(n, {})) for n in range(1, 12_001)])
    assert PEAKS.keys() <= set(steps_of(kept))
    events, ids = schema.events, [event.id for event in kept]
    unread = delete(events).where(events.c.id <= 11_000, events.c.id.not_in(ids))
    assert await again(store, unread) == kept


async def test_events_from_before_there_were_stretches_are_thinned_the_same(
    store: JobStore,
) -> None:
    attempts = [*range(1, 5000), *range(2345, 9001)]
    logs = [(EventType.LOG, {"message": str(n)}) for n in range(600)]
    new = [step(n, **PEAKS.get(n, {})) for n in attempts]
    kept = await thinned(store, [*new[:2000], *logs, *new[2000:]])
    stretches = schema.stretches
    number = stretches.c.number
    some = delete(stretches).where((number < 30) | ((number > 60) & (number < 80)))
    assert await again(store, some) == kept
    assert await again(store, delete(stretches)) == kept


async def test_jobs_that_say_much_between_two_steps_keep_their_newest_steps(
    store: JobStore,
) -> None:
    said: list[NewEvent] = [(EventType.LOG, {"message": "so far so good"})] * (LENGTH // 2)
    new = [one for n in range(1, 601) for one in (step(n), *said)]
    kept = await thinned(store, new)
    assert steps_of(kept)[-300:] == list(range(301, 601))
