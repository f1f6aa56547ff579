"""Of one job at most one process works, however late others come and however many there are."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml.jobs.assignment import Assignment
from ml.jobs.environment_file import EnvironmentFile
from ml.jobs.job import JobState, StopRequest
from ml.jobs.store import JobStore
from tests.support.jobs import job_at_step, job_in
from tests.support.processes import ROOT
from tests.support.step_job import KIND

Child = subprocess.Popen[str]
StartChild = Callable[..., Child]
StartService = Callable[..., subprocess.Popen[str]]
ENDLESS = {"steps": 100_000, "pause_seconds": 0.02}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs" / "a").mkdir(parents=True)
    return tmp_path / "jobs" / "a"


@pytest.fixture
def start_child(url: str, folder: Path) -> Iterator[StartChild]:
    """Start what executors start; it gets its variables, of which one is more, by a file."""
    with contextlib.ExitStack() as stack:

        def start(attempt: int) -> Child:
            file = EnvironmentFile(folder / f"environment-{len(children)}.json")
            file.write(Assignment(url, folder, attempt).environment() | {"A_SECRET": "it"})
            assert file.path.stat().st_mode & 0o777 == 0o600
            child = subprocess.Popen(
                [sys.executable, "-m", "ml.jobs.child", "a"],
                env=os.environ | file.variable(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(end, child)
            children.append(child)
            return child

        children: list[Child] = []
        yield start


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=20)


def files_of_variables(folder: Path) -> list[Path]:
    return list(folder.glob("environment-*"))


async def steps_of(store: JobStore, job_id: str) -> list[int]:
    events = await store.events(job_id, limit=10_000)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    return [event.data["step"] for event in events if event.type == "progress"]


async def test_of_several_processes_of_one_attempt_one_works(
    store: JobStore, start_child: StartChild, folder: Path
) -> None:
    await store.create(KIND, {"steps": 30, "pause_seconds": 0.02}, "a")
    await store.claim_next("elsewhere/1/1")
    children = [start_child(1) for _ in range(3)]
    assert sorted(child.wait(90) for child in children) == [0, 1, 1]
    assert (await store.get("a")).state is JobState.SUCCEEDED
    assert await steps_of(store, "a") == list(range(30))
    assert files_of_variables(folder) == []


async def test_a_process_that_comes_when_another_attempt_has_begun_does_nothing(
    store: JobStore, start_child: StartChild, folder: Path
) -> None:
    await store.create(KIND, {"steps": 3}, "a")
    await store.claim_next("elsewhere/1/1")
    await store.transition("a", JobState.INTERRUPTED)
    await store.requeue("a")
    await store.claim_next("elsewhere/1/1")
    late = start_child(1)
    assert late.wait(90) == 1
    assert await steps_of(store, "a") == []
    assert not (folder / "step").exists()
    assert start_child(2).wait(90) == 0
    assert await steps_of(store, "a") == [0, 1, 2]


async def test_a_process_whose_job_was_given_up_ends_without_another_file(
    store: JobStore, start_child: StartChild, folder: Path
) -> None:
    await store.create(KIND, ENDLESS | {"stubborn": True}, "a")
    await store.claim_next("elsewhere/1/1")
    child = start_child(1)
    await job_at_step(store, "a", 3)
    await store.transition("a", JobState.INTERRUPTED, reason="It seemed to be lost.")
    assert child.wait(90) == 1
    saved = int((folder / "step").read_text())
    assert saved == (await steps_of(store, "a"))[-1] + 1
    assert (await store.get("a")).reason == "It seemed to be lost."


# --- several services -------------------------------------------------------------------------


@pytest.fixture
def start_service(url: str, tmp_path: Path) -> Iterator[StartService]:
    with contextlib.ExitStack() as stack:

        def start(*before: str) -> subprocess.Popen[str]:
            module = "tests.support.job_service"
            service = subprocess.Popen(
                [*before, sys.executable, "-m", module, url, str(tmp_path / "jobs"), "resume"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(end, service)
            assert service.stdout is not None
            assert service.stdout.readline() == "ready\n"
            return service

        yield start


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_services_share_one_queue_and_no_job_runs_twice(
    store: JobStore, start_service: StartService
) -> None:
    services = [start_service(), start_service()]
    names = [str(number) for number in range(6)]
    for name in names:
        await store.create(KIND, {"steps": 10, "pause_seconds": 0.02}, name)
    await job_in(store, names[1], JobState.SUCCEEDED)
    services[0].kill()  # whichever leads
    jobs = [await job_in(store, name, JobState.SUCCEEDED) for name in names]
    assert sum(job.attempt for job in jobs) <= len(names) + 1  # at most one was interrupted
    for job in jobs:
        steps = await steps_of(store, job.id)
        assert sorted(set(steps)) == list(range(10))
        assert len(steps) - len(set(steps)) <= job.attempt - 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a process a host name of its own")
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_each_host_has_its_slots(store: JobStore, start_service: StartService) -> None:
    named = ("unshare", "--uts", "sh", "-c", 'hostname another; exec "$@"', "sh")
    services = [start_service(), start_service(), start_service(*named)]
    assert len(services) == 3
    for name in ("a", "b", "c"):
        await store.create(KIND, ENDLESS, name)
    first, second = [await job_at_step(store, name, 3) for name in ("a", "b")]
    assert {first.process["host"], second.process["host"]} == {socket.gethostname(), "another"}
    # Two services of one host have one slot together.
    assert (await store.get("c")).state is JobState.QUEUED
    for name in ("a", "b"):
        await store.request_stop(name, StopRequest.CANCEL)
    await job_at_step(store, "c", 3)
