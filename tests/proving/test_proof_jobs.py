"""Proofs as jobs without a service: their inputs and their records."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from ml.errors import StorageFull, storage_failure
from ml.jobs.job import IllegalTransition, JobState
from ml.jobs.settings import JobSettings
from ml.proving.artifact import Artifact
from ml.proving.proof_jobs import ProofJobs
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from tests.support.circuits import SETOSA, iris_artifact
from tests.support.disks import fill, small_disk


async def test_who_leaves_while_a_proof_is_queued_leaves_no_input_without_its_record(
    tmp_path: Path,
) -> None:
    jobs = jobs_in(tmp_path)
    prover = Prover(Artifact(iris_artifact()), Worker())  # which starts no process
    await jobs.open()
    try:
        for tenths in range(90):
            queueing = asyncio.create_task(jobs.submit(prover, [np.array([SETOSA], np.float32)]))
            await asyncio.sleep(tenths / 10_000)
            queueing.cancel()
            await asyncio.wait({queueing})
        await jobs.close()  # which waits for those that are still being queued
        await jobs.open()
        found = await jobs.store.list()
        assert {folder_of(path) for path in inputs_in(tmp_path)} <= {job.id for job in found}
        for job in found:
            with contextlib.suppress(IllegalTransition):  # it is done
                await jobs.cancel(job.id)
    finally:
        await jobs.close()
    assert not inputs_in(tmp_path)
    assert found
    assert JobState.FAILED not in {job.state for job in found}


async def test_who_leaves_while_a_proof_is_cancelled_leaves_no_input(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    prover = Prover(Artifact(iris_artifact()), Worker())
    await jobs.open()
    try:
        submitted = [await jobs.submit(prover, [np.array([SETOSA], np.float32)]) for _ in range(9)]
        for job in submitted:
            cancelling = asyncio.create_task(jobs.cancel(job.id))
            await asyncio.sleep(0)
            cancelling.cancel()
            await asyncio.wait({cancelling})
    finally:
        await jobs.close()
    assert not inputs_in(tmp_path)


async def test_a_proof_that_cannot_be_queued_leaves_no_input(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    prover = Prover(Artifact(iris_artifact()), Worker())
    await jobs.open()
    try:
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as records:
            records.execute("DROP TABLE job_events")
        with pytest.raises(OperationalError):
            await jobs.submit(prover, [np.array([SETOSA], np.float32)])
    finally:
        await jobs.close()
    assert not inputs_in(tmp_path)


def jobs_in(folder: Path) -> ProofJobs:
    return ProofJobs(
        folder,
        [iris_artifact()],
        JobSettings(grace_seconds=5),
        memory_limit_bytes=None,
        proved=lambda _: None,
    )


def inputs_in(folder: Path) -> list[Path]:
    return list(folder.glob("jobs/*/input.json"))


def folder_of(path: Path) -> str:
    return path.parent.name


async def test_a_proof_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    prover = Prover(Artifact(iris_artifact()), Worker())
    with small_disk(tmp_path / "disk", 2) as disk:
        jobs = jobs_in(disk)
        await jobs.open()
        try:
            with fill(disk), pytest.raises(OSError, match=r"full|space") as caught:
                await jobs.submit(prover, [np.array([SETOSA], np.float32)])
            told = storage_failure(caught.value) or caught.value
            assert isinstance(told, StorageFull)
            assert list((disk / "jobs").iterdir()) == []
            assert list(await jobs.store.list()) == []
        finally:
            await jobs.close()
