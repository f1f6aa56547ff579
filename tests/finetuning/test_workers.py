"""Several workers for one training: the same losses as one, and one end for all of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ml.errors import OutOfMemory, UnprocessableInput
from ml.finetuning.backends.unsloth_backend import UnslothBackend
from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.process_group import Place
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.workers import Workers, require_places
from ml.jobs.context import Stopped
from ml.jobs.engine import JobEngine
from ml.jobs.job import JobState
from ml.jobs.settings import JobSettings
from tests.support.finetuning import REQUEST, Context, Workplace, write_rows
from tests.support.jobs import job_at_step, job_in
from tests.support.processes import ROOT, children_of, is_running, until

#: Of different lengths, and after the split too few for both workers at the end of an epoch.
ROWS = [(f"Which colour has house {n}?", "It is " + "very " * (n % 5) + "red.") for n in range(16)]
TWO = {"num_workers": 2, "output_dir": "two"}
needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")


def numbers(context: Context, name: str) -> list[float]:
    return [data[name] for data in context.of("progress") if name in data]


@needs_two
def test_two_workers_have_the_losses_of_one_with_as_many_examples_in_a_step(
    workplace: Workplace,
) -> None:
    write_rows(workplace.input / "rows.jsonl", ROWS)
    shared = {"validation_split": 0.2, "max_steps": 5}  # thirteen examples, two steps an epoch
    done, one = workplace.run("one", output_dir="one", gradient_accumulation_steps=4, **shared)
    result, two = workplace.run("two", **TWO, **shared)

    for name in ("loss", "eval_loss", "learning_rate"):
        assert numbers(two, name) == pytest.approx(numbers(one, name), rel=1e-5)
    assert numbers(two, "grad_norm") == pytest.approx(numbers(one, "grad_norm"), rel=1e-4)
    for name in ("steps", "trained_tokens"):
        assert result["training"][name] == done["training"][name]
    assert multiprocessing.active_children() == []


@needs_two
def test_workers_go_on_from_a_checkpoint_to_the_last_bit_and_stop_together(
    workplace: Workplace,
) -> None:
    _, whole = workplace.run("whole", **TWO, lora_dropout=0.1)
    folder = workplace.working / "jobs"
    shutil.copytree(folder / "whole", folder / "parts")
    for step in (6, 8):
        shutil.rmtree(folder / "parts" / "checkpoints" / f"checkpoint-{step}")
    parts = workplace.context("parts", attempt=2, **TWO | {"output_dir": "parts"}, lora_dropout=0.1)
    parts.stop_at = 5
    with pytest.raises(Stopped):
        run(parts)
    assert parts.curve() == whole.curve()[3:5]
    assert workplace.checkpoints("parts") == ["checkpoint-3", "checkpoint-5"]

    alone = workplace.context("parts", attempt=3, output_dir="parts", lora_dropout=0.1)
    with pytest.raises(TrainingFailed, match="workers was 2, is 1; start a new job"):
        run(alone)


def run(context: Context) -> dict[str, Any]:
    from ml.finetuning import job

    return job.run(context)  # type: ignore[arg-type]


class Killing(Context):
    """Kills a worker after the second step."""

    def progress(self, **told: Any) -> None:
        super().progress(**told)
        if told.get("step") == 2:
            [worker] = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
            self.killed_at = time.monotonic()


@needs_two
def test_a_worker_that_is_killed_ends_the_training_within_seconds(workplace: Workplace) -> None:
    made = workplace.context("two", **TWO, max_steps=10_000, save_steps=10_000)
    context = Killing(made.job, made.folder)
    with pytest.raises(TrainingFailed, match=r"worker 1 was killed by SIGKILL.* resume the job"):
        run(context)
    assert time.monotonic() - context.killed_at < 10
    assert multiprocessing.active_children() == []


@pytest.fixture
async def engine(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobEngine]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    engine = JobEngine(workplace.working, JobSettings())
    await engine.open()
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def running_job(engine: JobEngine) -> list[int]:
    """Return the processes of a job that trains, its own one first."""
    request = REQUEST | TWO | {"max_steps": 100_000, "save_steps": 100_000}
    await engine.store.create("ml.finetuning.job", request, "two")
    pid = (await job_at_step(engine.store, "two", 2)).process["pid"]
    return [pid, *children_of(pid)]


@needs_two
async def test_workers_end_with_the_jobs_own_process(engine: JobEngine) -> None:
    processes = await running_job(engine)
    os.kill(processes[0], signal.SIGKILL)
    job = await job_in(engine.store, "two", JobState.FAILED)
    assert "killed by SIGKILL" in str(job.reason)
    assert len(processes) > 2
    gone = lambda: not any(map(is_running, processes))  # noqa: E731
    await asyncio.to_thread(until, gone, "no process is left", 10)


@needs_two
async def test_workers_save_together_when_all_of_them_are_told_to_end(
    engine: JobEngine, workplace: Workplace
) -> None:
    processes = await running_job(engine)
    os.killpg(processes[0], signal.SIGTERM)
    job = await job_in(engine.store, "two", JobState.INTERRUPTED, JobState.FAILED)
    assert job.state is JobState.INTERRUPTED, job.reason
    [kept] = Checkpoints.of_job(workplace.working / "jobs" / "two").complete()
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in kept.folder.iterdir()}
    gone = lambda: not any(map(is_running, processes))  # noqa: E731
    await asyncio.to_thread(until, gone, "no process is left", 10)


@dataclass(frozen=True)
class Failing:
    """What a worker cannot do."""

    error: Exception

    def do(self, place: Place, ready: Callable[[], None]) -> None:
        raise self.error


def test_what_ends_a_worker_ends_the_job_with_its_words() -> None:
    spent = OutOfMemory("lower the batch size")
    for error, kind, words in (
        (ValueError("no such layer"), TrainingFailed, "worker 1: ValueError: no such layer"),
        (spent, OutOfMemory, "lower the batch size"),
    ):
        with pytest.raises(kind, match=words), Workers(2, Failing(error)) as workers:
            workers.meet(lambda: None)
    assert multiprocessing.active_children() == []


def test_as_many_workers_as_gpus_or_processors_are_had() -> None:
    require_places(3, gpus=3)
    require_places(1, gpus=0)
    with pytest.raises(UnprocessableInput, match=r"num_workers: each needs a GPU .* has 2"):
        require_places(3, gpus=2)
    with pytest.raises(UnprocessableInput, match="num_workers: each needs a processor"):
        require_places(len(os.sched_getaffinity(0)) + 1, gpus=0)


def test_unsloth_refuses_several_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "unsloth.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    backend = UnslothBackend(gpu=lambda: True)
    request = FinetuningRequest(dataset_name="rows")
    assert backend.refusal(request) is None
    refusal = backend.refusal(request.model_copy(update={"num_workers": 2}))
    assert refusal == "it trains in one process; num_workers needs the backend 'trl'"
