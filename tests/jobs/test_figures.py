"""What Prometheus is told of jobs, from stores of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from ml.jobs.job import JobState
from ml.jobs.memory import resident_bytes
from ml.jobs.process import Process
from ml.jobs.store import JobStore
from ml.serving.job_metrics import JobMetrics
from tests.jobs.conftest import ContextOf

KIND = "some.kind"


async def told(store: JobStore) -> dict[tuple[str, ...], float]:
    """Return the samples by their name and label values."""
    families = await JobMetrics(lambda: store)()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def run(store: JobStore, id_: str) -> None:
    await store.create(KIND, {}, id_)
    assert await store.claim_next("me") is not None


async def test_jobs_are_counted_by_their_states_also_where_there_are_none(store: JobStore) -> None:
    assert [await told(store)] == [
        {(name, state): 0 for name in ("jobs", "jobs_run_seconds") for state in JobState}
        | {("jobs_waiting_seconds",): 0}
    ]
    for id_, end in (("a", JobState.SUCCEEDED), ("b", JobState.FAILED), ("c", JobState.FAILED)):
        await run(store, id_)
        await store.transition(id_, end)
    await store.create(KIND, {}, "d")
    found = await told(store)
    counts = {state: found["jobs", state] for state in JobState}
    assert counts == dict.fromkeys(JobState, 0) | {
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 2,
        JobState.QUEUED: 1,
    }


async def test_the_wait_is_that_of_the_next_job_since_it_was_queued_last(store: JobStore) -> None:
    await run(store, "a")
    await store.transition("a", JobState.INTERRUPTED)
    await store.create(KIND, {}, "b")
    queued = time.time()
    await asyncio.sleep(0.1)
    assert 0.1 <= (await told(store))["jobs_waiting_seconds",] <= time.time() - queued + 0.1
    await store.claim_next("me")
    before = time.time()
    await store.requeue("a")
    assert (await told(store))["jobs_waiting_seconds",] <= time.time() - before


async def test_a_job_is_told_of_while_it_runs(store: JobStore, context_of: ContextOf) -> None:
    await run(store, "a")
    with context_of("a") as context:
        context.progress(step=3, total_steps=10, loss=0.25, data={"rows": 1})
    found = await told(store)
    assert (found["job_step", "a"], found["job_steps", "a"], found["job_loss", "a"]) == (
        3,
        10,
        0.25,
    )
    assert found["job_seconds", "a"] >= 0
    assert found["jobs_run_seconds", JobState.RUNNING] >= 0
    await store.transition("a", JobState.SUCCEEDED)
    assert not [name for name in await told(store) if name[0].startswith("job_")]


async def test_what_a_job_tells_that_is_no_number_is_left_out(
    store: JobStore, context_of: ContextOf
) -> None:
    await run(store, "a")
    with context_of("a") as context:
        context.progress(step=True, loss="low")
    assert [name for name, *_ in await told(store) if name.startswith("job_")] == ["job_seconds"]


async def test_of_many_that_run_the_newest_are_told(store: JobStore) -> None:
    for number in range(66):
        await run(store, f"job-{number}")
    found = await told(store)
    assert found["jobs", JobState.RUNNING] == 66
    seconds = {name[1] for name in found if name[0] == "job_seconds"}
    assert seconds == {f"job-{number}" for number in range(2, 66)}


@contextlib.contextmanager
def parent_of_a_large_process() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process whose child holds fifty megabytes; it ends with its input."""
    holds = "b = bytearray(50_000_000); import sys; print('here', flush=True); sys.stdin.read()"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holds!r}])"
    command = [sys.executable, "-c", starts]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.communicate()


async def test_memory_is_that_of_the_process_and_all_it_started(
    store: JobStore, context_of: ContextOf
) -> None:
    await run(store, "a")
    with parent_of_a_large_process() as process:
        assert resident_bytes(process.pid) > 50_000_000
        with context_of("a") as context:
            context.introduce(Process.numbered(process.pid).data())
        assert (await told(store))["job_memory_bytes", "a"] > 50_000_000
    assert ("job_memory_bytes", "a") not in await told(store)


def test_a_process_that_is_gone_has_no_memory() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert resident_bytes(process.pid) == 0
    assert resident_bytes(os.getpid()) > 0
