"""What a service opens for its jobs, and closes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml.errors import ConfigurationError, NotReady
from ml.jobs.engine import JobEngine
from ml.jobs.job import Job, JobState
from ml.jobs.settings import JobSettings
from tests.support.jobs import job_in
from tests.support.requests import eventually
from tests.support.step_job import KIND


async def test_jobs_run_until_it_is_closed_and_their_records_are_there_when_it_opens_again(
    tmp_path: Path,
) -> None:
    ended: list[Job] = []

    async def on_end(job: Job) -> None:
        ended.append(job)

    engine = JobEngine(tmp_path / "made" / "here", JobSettings(), on_end=on_end)
    await engine.open()
    await engine.open()  # which a service that waits for another server does
    await engine.start()
    await engine.store.create(KIND, {"steps": 2}, "a")
    await engine.store.create(KIND, {"steps": 100_000, "pause_seconds": 0.02}, "b")
    await job_in(engine.store, "a", JobState.SUCCEEDED)
    await eventually(lambda: ended)
    await job_in(engine.store, "b", JobState.RUNNING)
    await engine.close()
    assert [(job.id, job.state) for job in ended] == [
        ("a", JobState.SUCCEEDED),
        ("b", JobState.INTERRUPTED),
    ]
    assert (engine.jobs_folder / "a").is_dir()
    await engine.open()
    assert (await engine.store.get("b")).state is JobState.INTERRUPTED
    await engine.close()


async def test_nothing_can_be_asked_of_it_before_it_is_open(tmp_path: Path) -> None:
    engine = JobEngine(tmp_path, JobSettings())
    for attribute in ("store", "tails"):
        with pytest.raises(NotReady):
            getattr(engine, attribute)
    await engine.close()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    engine = JobEngine(tmp_path / "file" / "jobs", JobSettings())
    with pytest.raises(ConfigurationError, match="file/jobs cannot be made: Not a directory"):
        await engine.open()
