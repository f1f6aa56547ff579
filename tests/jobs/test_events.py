"""Events of many writers, and what is left of them when a writer is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from ml.jobs.assignment import Assignment
from ml.jobs.event_type import EventType
from ml.jobs.job import JobState
from ml.jobs.store import JobStore
from ml.jobs.tail import Tails
from tests.jobs.conftest import ContextOf
from tests.support.disks import locked
from tests.support.jobs import PostgresqlServer
from tests.support.step_job import KIND

WRITERS, EACH = 3, 60


async def write_from_processes(url: str, folder: Path, job_id: str) -> None:
    """Let processes add events to one job at the same time."""
    options = [url, str(folder), job_id, str(EACH)]
    command = [sys.executable, "-m", "tests.support.event_writer", *options]
    writers = [await asyncio.create_subprocess_exec(*command, str(n)) for n in range(WRITERS)]
    codes = [await asyncio.wait_for(writer.wait(), 60) for writer in writers]
    assert codes == [0] * WRITERS


async def test_events_of_several_processes_have_ids_without_gaps_and_no_tail_misses_one(
    store: JobStore, url: str, tmp_path: Path, context_of: ContextOf
) -> None:
    await store.create(KIND, {}, "a")
    await store.claim_next("me")
    following = asyncio.create_task(ids_of(Tails(store, 0.02)))
    with context_of("a") as context:
        threads = [
            asyncio.to_thread(context.event, EventType.LOG, {"writer": "it"}) for _ in range(20)
        ]
        await asyncio.gather(write_from_processes(url, tmp_path, "a"), *threads)
    await store.transition("a", JobState.SUCCEEDED, result={})
    seen = await asyncio.wait_for(following, 20)
    expected = list(range(1, 2 + WRITERS * EACH + 20 + 1 + 1))
    assert seen == expected
    stored = await store.events("a", limit=10_000)
    assert [event.id for event in stored] == expected
    for writer in range(WRITERS):  # each writer's own order is kept
        own = [e.data["number"] for e in stored if e.data.get("writer") == str(writer)]
        assert own == list(range(EACH))


async def test_every_acknowledged_event_outlives_a_kill(
    store: JobStore, url: str, tmp_path: Path
) -> None:
    await store.create(KIND, {"steps": 100_000}, "a")
    await store.claim_next("me")
    environment = os.environ | Assignment(url, tmp_path).environment()
    command = [sys.executable, "-m", "ml.jobs.child", "a"]
    child = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        while (await store.last_event("a"))[1] < 100:
            await asyncio.sleep(0.02)
            assert child.returncode is None
    finally:
        child.send_signal(signal.SIGKILL)
        await asyncio.wait_for(child.wait(), 20)
    acknowledged = [int(line) for line in (tmp_path / "acknowledged").read_text().split()]
    stored = await store.events("a", limit=100_000)
    steps = [event.data["step"] for event in stored if event.type == EventType.PROGRESS]
    assert len(acknowledged) >= 90
    assert steps[: len(acknowledged)] == acknowledged
    assert len(steps) - len(acknowledged) <= 1  # one may have been stored and not yet answered
    assert [event.id for event in stored] == list(range(1, len(stored) + 1))


async def test_writers_of_one_record_lose_nothing_to_each_other(
    store: JobStore, context_of: ContextOf
) -> None:
    await store.create(KIND, {}, "a")
    await store.claim_next("me")
    with context_of("a") as context:
        await asyncio.gather(
            *(asyncio.to_thread(context.event, EventType.LOG, {}) for _ in range(40)),
            *(asyncio.to_thread(context.ask) for _ in range(40)),
            *(asyncio.to_thread(context.progress, step=n) for n in range(40)),
        )
    state, last = await store.last_event("a")
    assert (state, last) == (JobState.RUNNING, 42)
    assert "step" in (await store.get("a")).progress


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_write_waits_for_a_store_that_is_locked(
    store: JobStore, tmp_path: Path, context_of: ContextOf
) -> None:
    await store.create(KIND, {}, "a")
    await store.claim_next("me")
    with context_of("a") as waiting:
        async with locked(tmp_path / "jobs.db"):
            written = asyncio.create_task(asyncio.to_thread(waiting.event, EventType.LOG, {}))
            await asyncio.sleep(0.3)
            assert not written.done()
        await asyncio.wait_for(written, 20)
    assert (await store.last_event("a"))[1] == 3


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_database_that_drops_all_connections_loses_no_event_and_ends_no_tail(
    store: JobStore, postgresql: PostgresqlServer, context_of: ContextOf
) -> None:
    await store.create(KIND, {}, "a")
    await store.claim_next("me")
    tails = Tails(store, 0.02)
    following = asyncio.create_task(ids_of(tails))
    with context_of("a") as context:
        for number in range(30):
            await asyncio.to_thread(context.event, EventType.LOG, {"number": number})
            if number % 10 == 5:
                postgresql.drop_connections()
        await asyncio.to_thread(context.finish, JobState.SUCCEEDED, result={})
    assert await asyncio.wait_for(following, 20) == list(range(1, 34))
    assert (await store.get("a")).state is JobState.SUCCEEDED


async def ids_of(tails: Tails) -> list[int]:
    return [event.id async for event in tails.events("a")]
