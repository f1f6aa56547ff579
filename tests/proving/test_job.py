"""Proofs as jobs, in real processes: what comes of them, how they end, and what they leave."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from ezkl_patches import decode_verify_calldata
from ml.errors import InvalidInput
from ml.jobs.job import IllegalTransition, Job, JobState
from ml.jobs.settings import JobSettings
from ml.proving.artifact import Artifact
from ml.proving.job_input import JobInput
from ml.proving.proof_jobs import ProofJobs
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from tests.support.circuits import PRIVATE, SETOSA, TRACES, copy_of, iris_artifact, slow_artifact
from tests.support.jobs import job_in
from tests.support.processes import ROOT, children_of, files_with, is_running
from tests.support.requests import eventually

IRIS = np.array([SETOSA], np.float32)
SECRET = np.array([PRIVATE])
StartJobs = Callable[..., Awaitable[ProofJobs]]


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
async def start_jobs(tmp_path: Path) -> AsyncIterator[StartJobs]:
    """Take up the queue under one folder; all is closed with the test."""
    async with AsyncExitStack() as stack:

        async def start(
            *artifacts: Path, proved: Callable[[Mapping[str, float]], None] = lambda _: None
        ) -> ProofJobs:
            jobs = ProofJobs(
                tmp_path / "proofs",
                artifacts,
                JobSettings(),
                memory_limit_bytes=None,
                proved=proved,
            )
            await jobs.open()
            stack.push_async_callback(jobs.close)
            return jobs

        yield start


def prover_of(artifact: Path) -> Prover:
    """Return what knows an artifact, and starts no process."""
    return Prover(Artifact(artifact), Worker())


async def ended(jobs: ProofJobs, job: Job) -> Job:
    """Return a job once it has ended."""
    return await job_in(jobs.store, job.id, *(state for state in JobState if state.is_final))


async def in_stage(jobs: ProofJobs, job: Job, stage: str) -> Job:
    """Return a job once it is in a stage."""
    async with asyncio.timeout(60):
        while (job := await jobs.store.get(job.id)).progress.get("stage") != stage:
            assert not job.state.is_final, job.reason
            await asyncio.sleep(0.01)
    return job


async def test_a_proof_is_made_in_another_process_and_its_answer_is_kept(
    start_jobs: StartJobs,
) -> None:
    told: list[Mapping[str, float]] = []
    jobs, prover = await start_jobs(iris_artifact(), proved=told.append), prover_of(iris_artifact())
    job = await ended(jobs, await jobs.submit(prover, [IRIS]))
    assert (job.state, job.reason) == (JobState.SUCCEEDED, None)
    assert job.process["pid"] != os.getpid()
    assert job.result is not None
    outputs = job.result["outputs"]
    assert (outputs["dtype"], outputs["shape"]) == ("float", [1, 3])
    with Worker() as worker:
        proof = decode_verify_calldata(bytes.fromhex(job.result["calldata"][2:]))
        [proved] = Prover(prover.artifact, worker).verify(proof).outputs
    assert np.allclose(proved, outputs["values"][0])
    stages = job.progress["stages"]
    assert list(stages) == ["artifact", "witness", "prove", "verify"]
    assert job.progress["expected_seconds"] == job.request["expected_seconds"] > 0
    assert job.progress["seconds"] >= max(stages.values())
    events = [event for event in await jobs.store.events(job.id) if event.type == "stage"]
    assert [event.data["stage"] for event in events] == [name for name in stages for _ in range(2)]
    assert {event.data["stage"]: event.data["seconds"] for event in events[1::2]} == stages
    await eventually(lambda: told)
    assert told == [job.result["seconds"]]


async def test_the_input_is_its_users_alone_and_goes_with_the_job(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    jobs = await start_jobs(slow_artifact())
    job = await jobs.submit(prover_of(slow_artifact()), [SECRET])
    [path] = files_with(tmp_path, *TRACES)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    job = await ended(jobs, job)
    assert job.state is JobState.SUCCEEDED
    assert not files_with(tmp_path, *TRACES)


async def test_a_cancelled_proof_ends_at_once_and_leaves_nothing_of_its_input(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    jobs = await start_jobs(slow_artifact())
    job = await jobs.submit(prover_of(slow_artifact()), [SECRET])
    waiting = await jobs.submit(prover_of(slow_artifact()), [SECRET])
    await jobs.cancel(waiting.id)
    assert {path.parent.name for path in files_with(tmp_path, *TRACES)} == {job.id}
    job = await in_stage(jobs, job, "prove")
    [prover] = children_of(job.process["pid"])
    await jobs.cancel(job.id)
    job = await ended(jobs, job)
    assert job.state is JobState.CANCELLED
    assert "verify" not in job.progress["stages"]
    assert not is_running(prover)
    assert not files_with(tmp_path, *TRACES)
    for one in (job, waiting):
        with pytest.raises(IllegalTransition, match="only an interrupted proof is resumed"):
            await jobs.resume(one.id)


async def test_a_prover_that_is_killed_fails_its_job_and_the_next_one_works(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    jobs = await start_jobs(slow_artifact(), iris_artifact())
    job = await jobs.submit(prover_of(slow_artifact()), [SECRET])
    following = await jobs.submit(prover_of(iris_artifact()), [IRIS])
    job = await in_stage(jobs, job, "prove")
    [prover] = children_of(job.process["pid"])
    os.kill(prover, signal.SIGKILL)
    job = await ended(jobs, job)
    assert job.state is JobState.FAILED
    assert "The proving process died (SIGKILL" in str(job.reason)
    assert not files_with(tmp_path, *TRACES)
    following = await ended(jobs, following)
    told = (await jobs.store.events(following.id))[-1]
    assert following.state is JobState.SUCCEEDED, (following.reason, told)


async def test_a_job_that_is_killed_with_its_prover_leaves_nothing_of_its_input(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    jobs = await start_jobs(slow_artifact())
    job = await jobs.submit(prover_of(slow_artifact()), [SECRET])
    job = await in_stage(jobs, job, "prove")
    [prover] = children_of(job.process["pid"])
    assert len(files_with(tmp_path, *TRACES)) > 1  # the witness, too
    os.kill(job.process["pid"], signal.SIGKILL)
    job = await ended(jobs, job)
    assert job.state is JobState.FAILED
    assert "killed by SIGKILL" in str(job.reason)
    await eventually(lambda: not files_with(tmp_path, *TRACES))
    assert not is_running(prover)


async def test_an_interrupted_proof_keeps_its_input_and_begins_anew(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    first = await start_jobs(slow_artifact())
    job = await first.submit(prover_of(slow_artifact()), [SECRET])
    await in_stage(first, job, "prove")
    await first.close()
    assert [path.name for path in files_with(tmp_path, *TRACES)] == ["input.json"]
    jobs = await start_jobs(slow_artifact())
    assert (await jobs.store.get(job.id)).state is JobState.INTERRUPTED
    await jobs.resume(job.id)
    job = await ended(jobs, job)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert not files_with(tmp_path, *TRACES)


async def test_an_artifact_that_changed_or_went_since_then_fails_the_job_readably(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    artifact = copy_of(iris_artifact(), tmp_path)
    prover = prover_of(artifact)
    jobs = await start_jobs(artifact)
    key = artifact / "pk.key"
    key.write_bytes(key.read_bytes()[:-1] + b"\0")
    altered = await ended(jobs, await jobs.submit(prover, [IRIS]))
    artifact.rename(tmp_path / "elsewhere")
    missing = await ended(jobs, await jobs.submit(prover, [IRIS]))
    assert {altered.state, missing.state} == {JobState.FAILED}
    assert "pk.key of the artifact iris-" in str(altered.reason)
    assert "was altered" in str(altered.reason)
    assert f"the artifact {prover.artifact.manifest.id} is gone" in str(missing.reason)


async def test_an_input_that_went_since_then_fails_the_job_readably(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    jobs = await start_jobs(iris_artifact())
    job = await jobs.submit(prover_of(iris_artifact()), [IRIS])
    (tmp_path / "proofs" / "jobs" / job.id / "input.json").unlink()
    job = await ended(jobs, job)
    assert job.state is JobState.FAILED
    assert "input is not there any more" in str(job.reason)


async def test_what_the_circuit_does_not_take_is_refused_and_not_queued(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    jobs, prover = await start_jobs(iris_artifact()), prover_of(iris_artifact())
    for tensor in (IRIS[:, :3], IRIS * np.nan, IRIS * 1e9):
        with pytest.raises(InvalidInput):
            await jobs.submit(prover, [tensor])
    assert not await jobs.store.list()
    assert not list((tmp_path / "proofs" / "jobs").iterdir())


async def test_an_input_without_a_job_that_needs_it_goes_at_the_next_start(
    start_jobs: StartJobs, tmp_path: Path
) -> None:
    old, new = (JobInput(tmp_path / "proofs" / "jobs" / name) for name in ("old", "new"))
    for given in (old, new):
        given.write("{}")
    os.utime(tmp_path / "proofs" / "jobs" / "old" / "input.json", (1, 1))
    await start_jobs(iris_artifact())
    assert old.written_at() is None
    assert new.written_at() is not None  # of another worker, which is about to queue it
