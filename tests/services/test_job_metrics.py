"""What `/metrics` of a real service with two workers tells of a job."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from ml.jobs.store import JobStore
from tests.support import step_job
from tests.support.processes import ROOT, Server, clean_environment, free_port, until

NAME = "unsloth_trainer_service"


async def queue(url: str) -> None:
    async with JobStore(url) as store:
        await store.create(step_job.KIND, {"steps": 100_000, "pause_seconds": 0.05}, "counts")
        await store.create(step_job.KIND, {"steps": 1}, "waits")


def test_whichever_worker_is_asked_tells_the_same_of_the_jobs(tmp_path: Path) -> None:
    places = {
        f"{name}_PATH": str(tmp_path / name.lower()) for name in ("INPUT", "OUTPUT", "WORKING")
    }
    (tmp_path / "input").mkdir()
    asyncio.run(queue(f"sqlite:///{tmp_path}/working/jobs.sqlite"))
    port = free_port()
    environment = clean_environment(TRAINER_GRACE_SECONDS="20", **places) | {
        "PYTHONPATH": str(ROOT)
    }
    command = ["serve", NAME, f"--bind=127.0.0.1:{port}", "--workers=2"]
    with Server(command, port=port, environment=environment) as server:
        server.wait_ready(2)
        until(lambda: server.metrics().get('job_step{job_id="counts"}'), "the job tells its steps")
        told = [server.metrics() for _ in range(12)]  # each on a connection of its own
        for metrics in told:
            assert metrics['jobs{state="running"}'] == metrics['jobs{state="queued"}'] == 1
            assert metrics['job_memory_bytes{job_id="counts"}'] > 10_000_000
            assert metrics["jobs_waiting_seconds"] > 0
        steps = [metrics['job_step{job_id="counts"}'] for metrics in told]
        assert steps == sorted(steps)
        assert httpx.delete(f"{server.url}/jobs/counts").is_success
        until(lambda: server.metrics()['jobs{state="cancelled"}'] == 1, "the job is cancelled")
        until(lambda: server.metrics()['jobs{state="succeeded"}'] == 1, "the other one runs")
        assert 'job_step{job_id="counts"}' not in server.metrics()
