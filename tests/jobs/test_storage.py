"""A store without room, locked by others, or gone: told in words, and used again afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ml.errors import StorageFull, StorageUnavailable
from ml.jobs.executors.local import LocalExecutor
from ml.jobs.job import JobState
from ml.jobs.scheduler import Scheduler
from ml.jobs.settings import JobSettings
from ml.jobs.store import JobStore
from tests.support import filling_job, step_job
from tests.support.disks import fill, locked, small_disk
from tests.support.jobs import PostgresqlServer, job_in, postgresql_server
from tests.support.processes import free_port


async def test_a_locked_store_is_a_503_and_takes_the_job_once_it_is_free(tmp_path: Path) -> None:
    async with JobStore(f"sqlite:///{tmp_path}/jobs.db") as store:
        async with locked(tmp_path / "jobs.db"):
            with pytest.raises(StorageUnavailable, match="locked by another process") as caught:
                await store.create("kind", {}, "a")
            assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)
            assert list(await store.list()) == []
        assert (await store.create("kind", {}, "a")).state is JobState.QUEUED


async def test_a_store_on_a_full_disk_is_a_507_and_keeps_what_it_had(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        async with JobStore(f"sqlite:///{disk}/jobs.db") as store:
            await store.create("kind", {}, "a")
            with fill(disk):
                with pytest.raises(StorageFull, match="disk of the job store is full") as caught:
                    await store.create("kind", {"text": "-" * 100_000}, "b")
                assert caught.value.status == 507
                assert [job.id for job in await store.list()] == ["a"]
            await store.create("kind", {}, "b")
            assert [job.id for job in await store.list()] == ["b", "a"]


async def test_a_job_that_fills_the_disk_fails_saying_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        url = f"sqlite:///{disk}/jobs.db"
        async with JobStore(url) as store:
            scheduler = Scheduler(store, LocalExecutor(url, disk / "jobs", JobSettings(), {}))
            await store.create(filling_job.KIND, {}, "a")
            await scheduler.start()
            try:
                job = await job_in(store, "a", JobState.FAILED)
            finally:
                await scheduler.stop()
        assert job.reason == "StorageFull: The service's disk, or its quota on it, is full; " + (
            "free space first."
        )
        assert not (disk / "jobs" / "a" / "written").exists()


@pytest.fixture(scope="module")
def own_postgresql():  # type: ignore[no-untyped-def]
    """A server of this module's own, since it is stopped."""
    with postgresql_server() as server:
        yield server


async def test_a_server_that_is_gone_is_a_503(own_postgresql: PostgresqlServer) -> None:
    async with JobStore(own_postgresql.new_database()) as store:
        await store.create("kind", {}, "a")
        own_postgresql.stop()
        for call in (store.get("a"), store.create("kind", {}, "b"), store.list()):
            with pytest.raises(StorageUnavailable, match="cannot be reached") as caught:
                await call
            assert caught.value.status == 503
        own_postgresql.start()
        assert (await store.get("a")).state is JobState.QUEUED


async def test_a_server_that_is_not_there_yet_is_a_503_at_the_start() -> None:
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        await JobStore(f"postgresql://someone@127.0.0.1:{free_port()}/jobs").open()


@pytest.mark.timeout(200)
async def test_a_job_whose_store_is_away_for_too_long_is_interrupted_and_not_failed(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    async with JobStore(url) as store:
        executor = LocalExecutor(url, tmp_path / "jobs", JobSettings(), {})
        await store.create(step_job.KIND, {"steps": 100_000, "pause_seconds": 0.1}, "a")
        job = await store.claim_next("test")
        assert job is not None
        async with locked(tmp_path / "jobs.db"):
            await executor.start(job)
            ended = None
            for _ in range(600):  # it is patient for half a minute
                ended = ended or await executor.ended(job)
                await asyncio.sleep(0 if ended else 0.2)
        assert ended is not None
        assert ended.resumable
        assert "could not reach the job store" in ended.reason
