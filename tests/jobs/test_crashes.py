"""What is left when the service, a job's process or both are ended by force, or politely."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml.jobs.job import Job, JobState, StopRequest
from ml.jobs.store import JobStore
from tests.support.jobs import job_at_step, job_in
from tests.support.processes import ROOT, is_running, until
from tests.support.step_job import KIND

Service = subprocess.Popen[str]
StartService = Callable[..., Service]
LONG = {"steps": 100_000, "pause_seconds": 0.02}


@pytest.fixture
def start_service(url: str, tmp_path: Path) -> Iterator[StartService]:
    """Start processes that schedule jobs; all are ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Service:
            command = [sys.executable, "-m", "tests.support.job_service", url, str(tmp_path)]
            service = subprocess.Popen(
                [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            stack.callback(end, service)
            assert service.stdout is not None
            assert service.stdout.readline() == "ready\n"
            return service

        yield start


def end(service: Service) -> None:
    service.kill()
    service.communicate(timeout=20)


async def started(store: JobStore, **request: object) -> Job:
    """Return a job that the service has begun."""
    await store.create(KIND, LONG | request, "a")
    return await job_at_step(store, "a", 3)


async def goes_on(store: JobStore, *, behind: int) -> None:
    """Assert that the second attempt begins where the first had saved."""
    job = await job_at_step(store, "a", behind + 3)
    assert job.attempt == 2
    events = await store.events("a", limit=100_000)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    steps = [event.data["step"] for event in events if event.type == "progress"]
    assert sorted(set(steps)) == list(range(max(steps) + 1))
    assert len(steps) - len(set(steps)) <= 1  # the step that was not saved is done again


async def test_sigterm_lets_the_job_save_and_it_is_resumed_by_request(
    store: JobStore, start_service: StartService
) -> None:
    service = start_service()
    await started(store)
    service.terminate()
    assert service.wait(20) == 0
    job = await store.get("a")
    assert (job.state, job.reason) == (JobState.INTERRUPTED, None)
    start_service()
    assert (await store.get("a")).state is JobState.INTERRUPTED
    await store.requeue("a")
    await goes_on(store, behind=job.progress["step"])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_killed_service_takes_its_jobs_along_and_the_next_resumes_them(
    store: JobStore, start_service: StartService
) -> None:
    service = start_service()
    child = (await started(store)).process["pid"]
    service.kill()
    job = await job_in(store, "a", JobState.INTERRUPTED)  # without any service
    until(lambda: not is_running(child), "the child has ended")
    start_service("resume")
    await goes_on(store, behind=job.progress["step"])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_service_and_its_job_killed_together_leave_an_interrupted_job(
    store: JobStore, start_service: StartService
) -> None:
    service = start_service()
    child = (await started(store)).process["pid"]
    os.kill(child, signal.SIGSTOP)  # so that it cannot save when its parent ends
    service.kill()
    os.kill(child, signal.SIGKILL)
    service.wait(20)
    assert (await store.get("a")).state is JobState.RUNNING
    start_service()
    job = await job_in(store, "a", JobState.INTERRUPTED)
    assert job.reason == "Its process is gone."
    await store.requeue("a")
    await goes_on(store, behind=job.progress["step"])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_another_process_takes_over_from_a_killed_one_and_ends_its_hanging_job(
    store: JobStore, start_service: StartService
) -> None:
    first = start_service()
    start_service("resume", "hasty")
    child = (await started(store, stubborn=True)).process["pid"]
    first.kill()
    job = await job_at_step(store, "a", 0)
    assert job.attempt == 1
    until(lambda: not is_running(child), "the orphan that does not stop is killed", 20)
    job = await job_in(store, "a", JobState.RUNNING)
    while job.attempt == 1:
        job = await store.get("a")
    assert job.attempt == 2
    await store.request_stop("a", StopRequest.CANCEL)
    await job_in(store, "a", JobState.CANCELLED)
