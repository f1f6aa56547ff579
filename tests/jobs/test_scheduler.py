"""Jobs in real child processes: the queue, the ways to end, and stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ml.jobs import schema
from ml.jobs.database import sync_engine
from ml.jobs.executors.executor import Exit
from ml.jobs.executors.local import LocalExecutor
from ml.jobs.job import JobState, StopRequest
from ml.jobs.process import Process
from ml.jobs.scheduler import Scheduler
from ml.jobs.settings import JobSettings
from ml.jobs.store import JobStore
from tests.support.jobs import job_at_step, job_in
from tests.support.processes import is_running
from tests.support.requests import eventually
from tests.support.step_job import KIND

StartScheduler = Callable[..., Awaitable[Scheduler]]
ENDLESS = {"steps": 100_000, "pause_seconds": 0.02}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """SQLite alone: that the store is the same on PostgreSQL is shown elsewhere."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
async def start_scheduler(
    store: JobStore, url: str, tmp_path: Path
) -> AsyncIterator[StartScheduler]:
    async with AsyncExitStack() as stack:

        async def start(*, grace_seconds: float = 10, **options: object) -> Scheduler:
            settings = JobSettings(grace_seconds=grace_seconds)
            executor = LocalExecutor(url, tmp_path / "jobs", settings, {})
            scheduler = Scheduler(store, executor, grace_seconds=grace_seconds, **options)
            await scheduler.start()
            stack.push_async_callback(scheduler.stop)
            return scheduler

        yield start


async def types_of(store: JobStore, job_id: str) -> list[str]:
    return [event.type for event in await store.events(job_id)]


async def test_a_job_runs_in_a_process_of_its_own_and_its_result_is_kept(
    store: JobStore, start_scheduler: StartScheduler, tmp_path: Path
) -> None:
    await start_scheduler()
    await store.create(KIND, {"steps": 2, "at_end": "leave a helper"}, "a")
    job = await job_in(store, "a", *[state for state in JobState if state.is_final])
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"first": 0, "steps": 2})
    assert job.progress == {"step": 1}
    assert job.process["pid"] != os.getpid()
    assert await types_of(store, "a") == [
        *("status", "status", "progress", "progress", "status", "complete"),
    ]
    folder = tmp_path / "jobs" / "a"
    assert (folder / "log.txt").read_text() == "the last words\n"
    helper = int((folder / "helper").read_text())
    await eventually(lambda: not is_running(job.process["pid"]))
    await eventually(lambda: not is_running(helper))  # with the scheduler's next look


@pytest.mark.parametrize(
    ("at_end", "reason"),
    [
        ("raise", "ValueError: the data is odd"),
        ("exit", "Its process ended with exit code 3 and no result."),
        ("crash", "Its process was killed by SIGABRT."),
        ("no json", "TypeError: Type is not JSON serializable: set"),
    ],
)
async def test_a_job_that_fails_says_why_with_the_last_lines_of_its_log(
    store: JobStore, start_scheduler: StartScheduler, at_end: str, reason: str
) -> None:
    await start_scheduler()
    await store.create(KIND, {"steps": 1, "at_end": at_end}, "a")
    job = await job_in(store, "a", JobState.FAILED)
    assert job.reason is not None
    assert reason in job.reason
    assert "Traceback" not in job.reason
    status, log, error = (await store.events("a"))[-3:]
    assert (status.data["status"], error.type) == ("failed", "error")
    assert error.data == {"message": job.reason}
    assert "the last words" in log.data["message"]
    if at_end == "raise":
        assert "Traceback" in log.data["message"]


async def test_a_kind_that_does_not_exist_fails_readably(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    await start_scheduler()
    await store.create("no.such.kind", {}, "a")
    job = await job_in(store, "a", JobState.FAILED)
    assert job.reason == "ModuleNotFoundError: No module named 'no'"


async def test_a_child_that_is_killed_is_a_failed_job_that_can_be_queued_again(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    await start_scheduler()
    await store.create(KIND, {"steps": 30, "pause_seconds": 0.05}, "a")
    job = await job_at_step(store, "a", 2)
    os.kill(job.process["pid"], signal.SIGKILL)
    job = await job_in(store, "a", JobState.FAILED)
    assert job.reason == "Its process was killed by SIGKILL, probably out of memory."
    await store.requeue("a")
    job = await job_in(store, "a", JobState.SUCCEEDED)
    assert job.attempt == 2
    assert job.result is not None
    assert job.result["first"] > 0  # it went on from what it had saved


async def test_one_slot_runs_one_job_at_a_time_in_order_and_goes_on_after_a_failure(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    for name, at_end in (("a", "exit"), ("b", ""), ("c", "")):
        await store.create(KIND, {"steps": 5, "pause_seconds": 0.02, "at_end": at_end}, name)
    await start_scheduler(slots=1)
    await job_in(store, "c", JobState.SUCCEEDED)
    a, b, c = [await store.get(name) for name in "abc"]
    assert (a.state, b.state) == (JobState.FAILED, JobState.SUCCEEDED)
    assert a.ended_at <= b.started_at < b.ended_at <= c.started_at  # type: ignore[operator]


async def test_two_schedulers_run_no_job_twice_and_no_more_than_the_slots(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    for number in range(4):
        await store.create(KIND, {"steps": 2}, str(number))
    first, second = await start_scheduler(slots=2), await start_scheduler(slots=2)
    most = 0
    while await store.list([JobState.QUEUED, JobState.RUNNING]):
        most = max(most, len(await store.list([JobState.RUNNING])))
        assert not (first.leads and second.leads)
        await asyncio.sleep(0.02)
    jobs = await store.list()
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    assert most == 2
    leader, other = (first, second) if first.leads else (second, first)
    await leader.stop()
    await store.create(KIND, {"steps": 1}, "later")
    await job_in(store, "later", JobState.SUCCEEDED)
    assert other.leads


async def test_a_running_job_that_is_cancelled_saves_and_ends(
    store: JobStore, start_scheduler: StartScheduler, tmp_path: Path
) -> None:
    await start_scheduler()
    await store.create(KIND, ENDLESS, "a")
    await store.create(KIND, {"steps": 1}, "b")
    await job_at_step(store, "a", 3)
    assert (await store.request_stop("a", StopRequest.CANCEL)).state is JobState.RUNNING
    job = await job_in(store, "a", JobState.CANCELLED)
    saved = int((tmp_path / "jobs" / "a" / "step").read_text())
    assert saved == job.progress["step"] + 1  # the step was finished
    assert (await types_of(store, "a"))[-1] == "status"
    await job_in(store, "b", JobState.SUCCEEDED)


async def test_a_job_that_does_not_stop_is_killed_after_its_time(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    await start_scheduler(grace_seconds=1)
    await store.create(KIND, ENDLESS | {"stubborn": True}, "a")
    job = await job_at_step(store, "a", 3)
    await store.request_stop("a", StopRequest.CANCEL)
    cancelled = await job_in(store, "a", JobState.CANCELLED)
    assert cancelled.reason == "It did not stop within 1 s and was killed."
    assert not is_running(job.process["pid"])


async def test_stopping_the_scheduler_interrupts_its_jobs(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    scheduler = await start_scheduler(slots=2, grace_seconds=50)  # a busy machine takes seconds
    for name in ("a", "b"):
        await store.create(KIND, ENDLESS, name)
    pids = [(await job_at_step(store, name, 2)).process["pid"] for name in ("a", "b")]
    await scheduler.stop()
    for name in ("a", "b"):
        job = await store.get(name)
        assert (job.state, job.reason) == (JobState.INTERRUPTED, None)
    assert not any(map(is_running, pids))


async def test_stopping_the_scheduler_kills_jobs_that_hang(
    store: JobStore, start_scheduler: StartScheduler
) -> None:
    scheduler = await start_scheduler(grace_seconds=0.5)
    await store.create(KIND, ENDLESS | {"stubborn": True}, "hangs")
    pid = (await job_at_step(store, "hangs", 2)).process["pid"]
    await scheduler.stop()
    hangs = await store.get("hangs")
    assert hangs.state is JobState.INTERRUPTED
    assert hangs.reason == "It did not save in the time it had, and was killed."
    assert not is_running(pid)


async def test_a_process_that_cannot_be_started_is_a_failed_job(
    store: JobStore, start_scheduler: StartScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    await start_scheduler()
    await store.create(KIND, {"steps": 1}, "a")
    job = await job_in(store, "a", JobState.FAILED)
    assert job.reason is not None
    assert job.reason.startswith("Its process could not be started: [Errno 2]")


async def test_a_job_of_another_host_is_lost_after_a_time_without_a_sign_of_life(
    store: JobStore, url: str, tmp_path: Path
) -> None:
    executor = LocalExecutor(url, tmp_path, JobSettings(lost_seconds=10), {})
    await store.create(KIND, {}, "a")
    job = await store.claim_next("elsewhere/1/1")
    assert job is not None
    assert await executor.ended(job) is None
    silent = replace(job, heartbeat_at=time.time() - 11)
    assert await executor.ended(silent) == Exit(
        "It showed no sign of life for 11 s.", resumable=True
    )


async def test_a_job_is_watched_beyond_those_that_are_read_at_once(
    store: JobStore, url: str, start_scheduler: StartScheduler
) -> None:
    here = Process.numbered(os.getpid())
    now = time.time()
    row = {"ticket": 0, "seq": 0, "kind": KIND, "state": "running", "request": {}, "attempt": 1}
    row |= {"created_at": now, "heartbeat_at": now, "progress": {}, "process": here.data()}
    rows = [row | {"id": f"job-{number}", "number": number} for number in range(1, 1002)]
    rows[0]["process"] = replace(here, started=here.started - 1).data()  # it is gone
    engine = sync_engine(url)
    with engine.begin() as connection:
        connection.execute(schema.jobs.insert(), rows)
    engine.dispose()
    await start_scheduler()
    assert (await job_in(store, "job-1", JobState.INTERRUPTED)).reason
    assert len(await store.list([JobState.RUNNING], 2000)) == 1000
