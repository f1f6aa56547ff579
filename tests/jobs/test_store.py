"""The records of jobs, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import math

import pytest

from ml.errors import InvalidInput, NotFound
from ml.jobs.event_type import EventType
from ml.jobs.events import Superseded
from ml.jobs.job import IllegalTransition, Job, JobState, StopRequest
from ml.jobs.store import JobStore
from tests.jobs.conftest import ContextOf

KIND = "some.kind"


async def made(store: JobStore, *ids: str) -> None:
    for id_ in ids:
        await store.create(KIND, {}, id_)


async def claimed(store: JobStore, id_: str = "a") -> Job:
    await store.create(KIND, {}, id_)
    job = await store.claim_next("me")
    assert job is not None
    return job


async def test_a_new_job_waits_and_says_so(store: JobStore) -> None:
    job = await store.create(KIND, {"steps": 3})
    assert (job.state, job.request, job.attempt) == (JobState.QUEUED, {"steps": 3}, 0)
    assert await store.get(job.id) == job
    [event] = await store.events(job.id)
    assert (event.id, event.type, event.data["state"]) == (1, EventType.STATUS, "queued")


async def test_the_same_id_again_gives_the_job_there_is(store: JobStore) -> None:
    same = [store.create(KIND, {"n": (1, 2)}, "a") for _ in range(8)]
    assert len({job.created_at for job in await asyncio.gather(*same)}) == 1
    assert len(await store.list()) == 1
    with pytest.raises(IllegalTransition, match="another request"):
        await store.create(KIND, {"n": 2}, "a")


@pytest.mark.parametrize("id_", ["", "../a", "a/b", ".hidden", "a" * 97])
async def test_an_id_is_a_plain_name(store: JobStore, id_: str) -> None:
    with pytest.raises(InvalidInput):
        await store.create(KIND, {}, id_)


async def test_a_request_is_json(store: JobStore) -> None:
    with pytest.raises(InvalidInput, match="no JSON"):
        await store.create(KIND, {"a": 2**70})


@pytest.mark.parametrize("id_", ["x", "a\0", "\0"])
async def test_unknown_jobs_are_not_found(store: JobStore, id_: str) -> None:
    await made(store, "a")
    for call in (
        store.get(id_),
        store.position(id_),
        store.last_event(id_),
        store.request_stop(id_, StopRequest.CANCEL),
        store.requeue(id_),
        store.list(after=id_),
    ):
        with pytest.raises(NotFound):
            await call


async def test_jobs_are_listed_newest_first_by_page_and_state(store: JobStore) -> None:
    await made(store, "a", "b", "c", "d")
    await store.claim_next("me")
    assert [job.id for job in await store.list(limit=2)] == ["d", "c"]
    assert [job.id for job in await store.list(limit=2, after="c")] == ["b", "a"]
    assert [job.id for job in await store.list([JobState.RUNNING])] == ["a"]
    assert [job.id for job in await store.list([JobState.QUEUED], after="d")] == ["c", "b"]


async def test_jobs_are_taken_in_the_order_of_their_places(store: JobStore) -> None:
    await made(store, "a", "b", "c")
    assert [await store.position(id_) for id_ in "abc"] == [1, 2, 3]
    first = await store.claim_next("me")
    assert first is not None
    assert (first.id, first.state, first.attempt) == ("a", JobState.RUNNING, 1)
    assert [await store.position(id_) for id_ in "abc"] == [None, 1, 2]
    await store.request_stop("b", StopRequest.CANCEL)
    assert await store.position("c") == 1


async def test_no_job_is_taken_twice_and_no_slot_too_much(store: JobStore, url: str) -> None:
    await made(store, *"abcdefgh")
    async with JobStore(url) as other:
        claims = [s.claim_next("me", 5) for s in (store, other) for _ in range(8)]
        taken = [job.id for job in await asyncio.gather(*claims) if job]
    assert sorted(taken) == list("abcde")


async def test_a_job_that_succeeds_has_its_result_and_last_event_in_one_step(
    store: JobStore,
) -> None:
    await claimed(store)
    events = [(EventType.COMPLETE, {"loss": 1.5})]
    job = await store.transition("a", JobState.SUCCEEDED, result={"loss": 1.5}, events=events)
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"loss": 1.5})
    assert job.ended_at is not None
    last = (await store.events("a"))[-2:]
    assert [(e.id, e.type) for e in last] == [(3, "status"), (4, "complete")]


async def test_an_illegal_transition_changes_nothing(store: JobStore) -> None:
    await made(store, "a")
    with pytest.raises(IllegalTransition, match="queued and cannot become succeeded"):
        await store.transition("a", JobState.SUCCEEDED, events=[(EventType.COMPLETE, {})])
    assert (await store.get("a")).state is JobState.QUEUED
    assert await store.last_event("a") == (JobState.QUEUED, 1)


async def test_of_many_ends_only_one_counts(store: JobStore) -> None:
    await claimed(store)
    ends = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED] * 4
    done = await asyncio.gather(
        *(store.transition("a", end) for end in ends), return_exceptions=True
    )
    [job] = [result for result in done if isinstance(result, Job)]
    assert all(isinstance(r, IllegalTransition) for r in done if r is not job)
    assert (await store.get("a")).state is job.state
    assert await store.last_event("a") == (job.state, 3)


async def test_a_waiting_job_is_cancelled_at_once(store: JobStore) -> None:
    await made(store, "a")
    assert (await store.request_stop("a", StopRequest.CANCEL)).state is JobState.CANCELLED
    assert await store.claim_next("me") is None


async def test_a_running_job_is_asked_and_a_cancellation_stays(
    store: JobStore, context_of: ContextOf
) -> None:
    await claimed(store)
    assert (await store.request_stop("a", StopRequest.INTERRUPT)).stop is StopRequest.INTERRUPT
    assert (await store.request_stop("a", StopRequest.CANCEL)).stop is StopRequest.CANCEL
    assert (await store.request_stop("a", StopRequest.INTERRUPT)).stop is StopRequest.CANCEL
    with context_of("a") as context:
        assert context.ask() is StopRequest.CANCEL


async def test_what_has_ended_cannot_be_stopped(store: JobStore, context_of: ContextOf) -> None:
    await claimed(store)
    await store.transition("a", JobState.SUCCEEDED, result={})
    for stop in StopRequest:
        with pytest.raises(IllegalTransition):
            await store.request_stop("a", stop)
    with context_of("a") as context, pytest.raises(Superseded):
        context.ask()


async def test_an_interrupted_job_waits_again_behind_the_others(
    store: JobStore, context_of: ContextOf
) -> None:
    await claimed(store)
    with context_of("a") as context:
        context.progress(step=7)
    await store.request_stop("a", StopRequest.INTERRUPT)
    await store.transition("a", JobState.INTERRUPTED, reason="shutdown")
    await made(store, "b")
    job = await store.requeue("a")
    assert (job.state, job.reason, job.stop, job.ended_at) == (JobState.QUEUED, None, None, None)
    assert job.progress == {"step": 7}
    assert [await store.position(id_) for id_ in "ba"] == [1, 2]
    assert [job.id for job in await store.list()] == ["b", "a"]  # by when they were made
    await store.claim_next("me")
    again = await store.claim_next("me")
    assert again is not None
    assert (again.id, again.attempt) == ("a", 2)


async def test_a_succeeded_job_is_not_queued_again(store: JobStore) -> None:
    await claimed(store)
    await store.transition("a", JobState.SUCCEEDED, result={})
    with pytest.raises(IllegalTransition):
        await store.requeue("a")


async def test_an_earlier_attempt_can_write_nothing_any_more(
    store: JobStore, context_of: ContextOf
) -> None:
    await claimed(store)
    with context_of("a") as earlier:
        await store.transition("a", JobState.INTERRUPTED)
        await store.requeue("a")
        await store.claim_next("me")
        for write in (
            lambda: earlier.event(EventType.LOG, {}),
            lambda: earlier.progress(step=1),
            earlier.ask,
        ):
            with pytest.raises(Superseded):
                write()
        with pytest.raises(IllegalTransition):
            earlier.finish(JobState.SUCCEEDED, result={})
    assert (await store.get("a")).state is JobState.RUNNING


async def test_numbers_that_json_lacks_become_null(store: JobStore, context_of: ContextOf) -> None:
    await claimed(store)
    with context_of("a") as context:
        context.progress(loss=math.nan)
        context.event(EventType.PROGRESS, {"loss": math.inf, "text": "\0"})
    assert (await store.get("a")).progress == {"loss": None}
    assert (await store.events("a"))[-1].data == {"loss": None, "text": "\0"}


async def test_a_lease_has_one_holder_until_it_is_released_or_expires(store: JobStore) -> None:
    async def holder(name: str, seconds: float = 60) -> str:
        return await store.acquire_lease("it", name, seconds)

    [first] = set(await asyncio.gather(*(holder(f"w{i}") for i in range(8))))
    assert await holder("late") == first
    assert await holder(first, seconds=0) == first
    assert await holder("late") == "late"
    await store.release_lease("it", first)
    assert await holder(first) == "late"
    await store.release_lease("it", "late")
    assert await holder(first) == first


async def test_a_caller_that_leaves_locks_nobody_out(store: JobStore) -> None:
    for number in range(60):
        creating = asyncio.create_task(store.create(KIND, {}, f"a{number}"))
        await asyncio.sleep(number / 10_000)
        creating.cancel()
        ended, _ = await asyncio.wait({creating}, timeout=5)
        assert ended
        await asyncio.wait_for(store.create(KIND, {}, f"b{number}"), 5)


async def test_what_was_begun_is_done_before_the_store_closes(store: JobStore) -> None:
    creating = asyncio.create_task(store.create(KIND, {}, "a"))
    await asyncio.sleep(0)
    creating.cancel()
    await asyncio.wait({creating})
    await store.close()
    assert (await store.get("a")).state is JobState.QUEUED


async def test_an_error_that_nobody_waits_for_is_no_fault_of_the_service(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    getting = asyncio.create_task(store.get("none"))
    await asyncio.sleep(0)
    getting.cancel()
    await asyncio.wait({getting})
    await store.close()
    del getting  # asyncio reports an error once nobody can ask for it
    gc.collect()
    await asyncio.sleep(0)
    assert not caplog.records
