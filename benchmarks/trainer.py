"""What a job costs a training run: its steps beside a bare TRL script's, and its events."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.results import Record
from benchmarks.servers import PEERS, ROOT
from ml.finetuning.request import FinetuningRequest
from ml.jobs.assignment import Assignment
from ml.jobs.context import JobContext
from ml.jobs.event_type import EventType
from ml.jobs.job import JobState
from ml.jobs.store import JobStore
from ml.jobs.tail import Tails
from ml.models.embedded_llm import EMBEDDED_LLM, install

__all__ = ["event_rates", "step_times"]

DATA = ROOT / "examples" / "finetuning"
STEPS, WARM_UP = 24, 4
EVENTS, SUBSCRIBERS = 1000, 200
REQUEST = FinetuningRequest(
    model_name=EMBEDDED_LLM,
    dataset_name="ostwick_harbour",
    output_dir="bench",
    max_seq_length=128,
    max_steps=STEPS,
    save_steps=STEPS,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=1,
)


def step_times(record: Record, count: int) -> None:
    """Measure the median seconds of a step, job and script in turns."""
    install()
    rounds = []
    for number in range(count):
        turns = (_script, _job) if number % 2 == 0 else (_job, _script)
        rounds.append({turn: turn() for turn in turns})
    script, job = ([seconds[turn] for seconds in rounds] for turn in (_script, _job))
    table = record.table("a step of training", "bare TRL", "a job", "a job / bare TRL")
    table.row(
        f"{STEPS} steps",
        *(Figure.of(*seconds, places=3, unit="s") for seconds in (script, job)),
        Figure.ratio(job, script, 3),
    )


def _job() -> float:
    """Run a job as the service's child process does; its steps are in its log."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_run_job(Path(folder)))
        log = Path(folder, "jobs", "bench", "training_logs.jsonl").read_text()
    return _median([json.loads(line)["step_time"] for line in log.splitlines()])


async def _run_job(folder: Path) -> None:
    url = f"sqlite:///{folder / 'jobs.sqlite'}"
    async with JobStore(url) as store:
        await store.create("ml.finetuning.job", REQUEST.model_dump(mode="json"), "bench")
        await store.claim_next("benchmark")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ml.jobs.child", "bench"),
            env=_environment()
            | {
                **Assignment(url, folder / "jobs" / "bench").environment(),
                "INPUT_PATH": str(DATA),
                "OUTPUT_PATH": str(folder / "output"),
                "WORKING_PATH": str(folder),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await process.wait()
        job = await store.get("bench")
        if job.state is not JobState.SUCCEEDED:
            raise SystemExit(f"the job {job.state}: {job.reason}")


def _script() -> float:
    command = [sys.executable, str(PEERS / "bare_trl.py"), REQUEST.model_dump_json()]
    done = subprocess.run(
        command, env=_environment(), check=True, capture_output=True, text=True, timeout=600
    )
    return _median(json.loads(done.stdout.splitlines()[-1]))


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds[WARM_UP:])


def event_rates(record: Record) -> None:
    """Measure how fast events are written, and how fast they reach many subscribers."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_event_rates(record, Path(folder)))


async def _event_rates(record: Record, folder: Path) -> None:
    url = f"sqlite:///{folder / 'jobs.sqlite'}"
    async with JobStore(url) as store:
        job = await store.create("benchmark", {})
        await store.claim_next("benchmark")
        started = time.perf_counter()
        with JobContext(Assignment(url, folder), job.id) as context:
            for number in range(EVENTS):
                context.event(EventType.PROGRESS, {"step": number, "loss": 1.0})
        written = EVENTS / (time.perf_counter() - started)
        await store.transition(job.id, JobState.SUCCEEDED, result={})
        tails = Tails(store)

        async def read() -> int:
            return len([event async for event in tails.events(job.id)])

        started = time.perf_counter()
        counts = await asyncio.gather(*(read() for _ in range(SUBSCRIBERS)))
        seconds = time.perf_counter() - started
    assert len(set(counts)) == 1
    table = record.table("events on SQLite", "written one by one", "subscribers", "each read", "in")
    table.row(
        "each durable when its call returns",
        Figure.of(written, places=0, unit="/s"),
        Figure.of(SUBSCRIBERS, places=0),
        Figure.of(counts[0], places=0),
        Figure.of(seconds, unit="s"),
    )
