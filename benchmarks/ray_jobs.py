"""A training job by the local executor and as a job of Ray's: its start, and its steps."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.results import Record
from benchmarks.store import postgresql
from benchmarks.trainer import DATA, REQUEST, WARM_UP
from ml.jobs.engine import JobEngine
from ml.jobs.job import JobState
from ml.jobs.settings import JobSettings
from ml.models.embedded_llm import embedded_llm_path, install
from tests.support.ray_cluster import RayCluster

__all__ = ["steps"]

EXECUTORS = ("local", "ray")
PATIENCE_SECONDS = 600.0


def steps(record: Record, cluster: RayCluster, count: int) -> None:
    """Measure seconds until a job's process runs, and of a step, in turns, on one store."""
    install()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in EXECUTORS}
    with postgresql() as url:
        for number in range(count):
            for name in EXECUTORS[:: -1 if number % 2 else 1]:
                with tempfile.TemporaryDirectory() as folder:
                    taken[name].append(asyncio.run(_run_job(cluster, Path(folder), url, name)))
    table = record.table(
        f"{REQUEST.max_steps} steps of {REQUEST.model_name}",
        *("its process runs after", "a step", "x one by the local executor"),
    )
    local = [step for _, step in taken["local"]]
    for name, runs in taken.items():
        starts, seconds = zip(*runs, strict=True)
        figures = Figure.of(*starts, unit="s"), Figure.of(*seconds, places=3, unit="s")
        table.row(name, *figures, Figure.ratio(seconds, local, 3))


async def _run_job(
    cluster: RayCluster, folder: Path, url: str, executor: str
) -> tuple[float, float]:
    """Return the seconds until the process of a job ran, and those of its median step."""
    where = {"ray_address": cluster.address, "ray_token": cluster.token}
    settings = JobSettings(
        executor=executor, database_url=url, **(where if executor == "ray" else {})
    )
    environment = {
        "INPUT_PATH": str(DATA),
        "OUTPUT_PATH": str(folder / "output"),
        "WORKING_PATH": str(folder),
        "MODELS_PATH": str(embedded_llm_path().parent),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    engine = JobEngine(folder, settings, environment=environment)
    await engine.open()
    await engine.start()
    try:
        began = time.perf_counter()
        job = await engine.store.create("ml.finetuning.job", REQUEST.model_dump(mode="json"))
        started = 0.0
        while not job.state.is_final:
            if not started and "pid" in job.process:
                started = time.perf_counter() - began
            if time.perf_counter() - began > PATIENCE_SECONDS:
                raise SystemExit(f"the job is {job.state} still")
            await asyncio.sleep(0.05)
            job = await engine.store.get(job.id)
        if job.state is not JobState.SUCCEEDED:
            raise SystemExit(f"the job {job.state}: {job.reason}")
        log = (folder / "jobs" / job.id / "training_logs.jsonl").read_text()
    finally:
        await engine.close()
    seconds = [json.loads(line)["step_time"] for line in log.splitlines()]
    return started, statistics.median(seconds[WARM_UP:])
