"""Runs of a small model: what they tell, how they stop, and how they go on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ml.errors import UnprocessableInput
from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.data.report import UnusableData
from ml.finetuning.failures import OutputTaken, TrainingFailed
from ml.jobs.context import Stopped
from tests.support.finetuning import Context, Workplace, write_rows

WEIGHTS = "adapter_model.safetensors"
#: Steps so large that what it learns soon does not hold for the other rows.
GETTING_WORSE = {
    "max_steps": 40,
    "save_steps": 2,
    "save_total_limit": 1,
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant",
    "lora_r": 32,
    "validation_split": 0.25,
    "early_stopping_patience": 2,
}


def finish(context: Context) -> dict[str, Any]:
    """Run a job again in its folder, as a requeued one is."""
    from ml.finetuning import job

    return job.run(context)  # type: ignore[arg-type]


def stop(workplace: Workplace, job_id: str, *, at: int, **request: Any) -> Context:
    context = workplace.context(job_id, **request)
    context.stop_at = at
    with pytest.raises(Stopped):
        finish(context)
    return context


def test_a_run_tells_its_phases_in_order_and_the_numbers_of_each_step(workplace: Workplace) -> None:
    result, context = workplace.run()

    phases = [data["status"] for data in context.of("status")]
    assert phases == ["preparing_data", "loading_model", "training", "saving", "exporting"]
    steps = context.steps()
    assert [data["step"] for data in steps] == list(range(1, 9))
    for data in steps:
        assert set(data) == {
            *("progress", "step", "total_steps", "epoch", "loss", "learning_rate"),
            *("grad_norm", "step_time", "eta_seconds", "memory_bytes"),
        }
        assert data["total_steps"] == 8
        assert data["progress"] == 12.5 * data["step"]
        assert data["step_time"] > 0
    assert steps[-1]["eta_seconds"] == 0 < steps[0]["eta_seconds"]
    assert context.newest == {**steps[-1], "data": result["data"]}
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3
    assert result["training"]["loss_first"] == steps[0]["loss"]
    assert result["training"]["loss_last"] == steps[-1]["loss"]


def test_the_logs_have_the_documented_fields_in_the_job_and_in_the_output_folder(
    workplace: Workplace,
) -> None:
    _, context = workplace.run()
    text = (workplace.output / "results" / "training_logs.jsonl").read_text()
    assert (context.folder / "training_logs.jsonl").read_text() == text
    lines = [json.loads(line) for line in text.splitlines()]
    fields = "timestamp type level message step epoch step_time learning_rate loss grad_norm"
    for number, line in enumerate(lines, 1):
        assert list(line) == fields.split()
        assert line["type"] == "training_step"
        assert line["message"] == f"Step {number} completed"
    assert [line["loss"] for line in lines] == [data["loss"] for data in context.steps()]

    with (workplace.output / "results" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["grad_norm"]) for row in rows] == [line["grad_norm"] for line in lines]


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(
    workplace: Workplace, dropout: float
) -> None:
    whole, at_once = workplace.run("one", output_dir="whole", lora_dropout=dropout)
    first = stop(workplace, "two", at=5, output_dir="parts", lora_dropout=dropout)
    assert workplace.checkpoints("two") == ["checkpoint-3", "checkpoint-5"]
    assert not (workplace.output / "parts" / WEIGHTS).exists()
    second = workplace.context("two", attempt=2, output_dir="parts", lora_dropout=dropout)
    parts = finish(second)

    assert first.curve() + second.curve() == at_once.curve()  # to the last bit
    assert [data["step"] for data in second.steps()] == [6, 7, 8]
    assert parts["training"] == whole["training"]
    one, two = (workplace.output / name / WEIGHTS for name in ("whole", "parts"))
    assert one.read_bytes() == two.read_bytes()
    logs = [workplace.output / name / "training_logs.jsonl" for name in ("whole", "parts")]
    lines = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]


def test_half_a_checkpoint_is_not_gone_on_from(workplace: Workplace) -> None:
    _, at_once = workplace.run("one", output_dir="whole")
    stop(workplace, "two", at=5, output_dir="parts")
    folder = workplace.working / "jobs" / "two" / "checkpoints"
    # A process that dies while it saves: some files are missing, or one is cut short.
    shutil.copytree(folder / "checkpoint-5", folder / "checkpoint-6")
    (folder / "checkpoint-6" / "complete.json").unlink()
    (folder / "checkpoint-6" / "trainer_state.json").unlink()
    cut = folder / "checkpoint-5" / "optimizer.pt"
    cut.write_bytes(cut.read_bytes()[:-100])

    second = workplace.context("two", attempt=2, output_dir="parts")
    finish(second)
    assert second.curve() == at_once.curve()[3:]  # from the checkpoint of step 3
    log = (workplace.output / "parts" / "training_logs.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 9))


def test_a_run_that_died_after_its_last_step_is_not_trained_again(workplace: Workplace) -> None:
    workplace.run()
    weights = (workplace.output / "results" / WEIGHTS).read_bytes()
    (workplace.output / "results" / "adapter_config.json").unlink()
    (workplace.output / "results" / WEIGHTS).unlink()

    result, second = workplace.run()
    assert not second.steps()
    assert result["training"]["steps"] == 8
    assert (workplace.output / "results" / WEIGHTS).read_bytes() == weights


def test_a_run_does_not_go_on_with_other_data(workplace: Workplace) -> None:
    stop(workplace, "one", at=4)
    write_rows(workplace.input / "rows.jsonl", [("Who?", "Nobody."), ("Where?", "Nowhere.")])
    with pytest.raises(
        TrainingFailed, match=r"cannot go on .*: data_sha256 was .* start a new job"
    ):
        finish(workplace.context("one", attempt=2))


def test_a_run_does_not_go_on_with_weights_of_another_dtype(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(workplace, "one", at=4)
    monkeypatch.setenv("TRAINER_DTYPE", "bfloat16")
    with pytest.raises(TrainingFailed, match="dtype was float32, is bfloat16"):
        finish(workplace.context("one", attempt=2))


def test_old_checkpoints_make_room(workplace: Workplace) -> None:
    workplace.run(save_steps=2, save_total_limit=2)
    assert workplace.checkpoints() == ["checkpoint-6", "checkpoint-8"]


def test_a_run_ends_early_with_the_best_checkpoint(workplace: Workplace) -> None:
    result, context = workplace.run(**GETTING_WORSE)
    evaluations = {d["step"]: d["eval_loss"] for d in context.of("progress") if "eval_loss" in d}
    best = min(evaluations, key=evaluations.__getitem__)
    training = result["training"]
    assert training["stopped_early"]
    assert training["steps"] == best + 4 == max(evaluations)
    assert training["adapter_step"] == best
    assert training["eval_loss_best"] == evaluations[best]

    folder = workplace.working / "jobs" / "one" / "checkpoints"
    assert workplace.checkpoints() == [f"checkpoint-{best}", f"checkpoint-{best + 4}"]
    published = load_file(workplace.output / "results" / WEIGHTS)
    kept = load_file(folder / f"checkpoint-{best}" / WEIGHTS)
    last = load_file(folder / f"checkpoint-{best + 4}" / WEIGHTS)
    assert all(published[name].equal(kept[name]) for name in kept)
    assert not all(published[name].equal(last[name]) for name in last)


def test_early_stopping_counts_on_after_a_stop(workplace: Workplace) -> None:
    whole, _ = workplace.run("one", output_dir="whole", **GETTING_WORSE)
    assert whole["training"]["stopped_early"]
    at = whole["training"]["steps"] - 1
    stop(workplace, "two", at=at, output_dir="parts", **GETTING_WORSE)
    parts, _ = workplace.run("two", output_dir="parts", **GETTING_WORSE)
    assert parts["training"] == whole["training"]


def test_a_batch_and_as_many_accumulated_ones_are_the_same_step(workplace: Workplace) -> None:
    shapes = {"once": (4, 1), "twice": (2, 2)}
    first = {}
    for name, (batch, accumulated) in shapes.items():
        _, context = workplace.run(
            name,
            output_dir=name,
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulated,
        )
        first[name] = context.steps()[0]
    assert first["once"]["loss"] == pytest.approx(first["twice"]["loss"], rel=1e-5)
    assert first["once"]["grad_norm"] == pytest.approx(first["twice"]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("wish", [{"packing": True}, {"gradient_checkpointing": True}])
def test_a_run_learns_with_(workplace: Workplace, wish: dict[str, Any]) -> None:
    result, _ = workplace.run(**wish)
    assert result["training"]["loss_last"] < result["training"]["loss_first"] - 0.3


def test_a_loss_that_is_no_number_says_what_to_lower(workplace: Workplace, models: Path) -> None:
    poisoned = models / "poisoned"
    shutil.copytree(models / "small", poisoned, dirs_exist_ok=True)
    from safetensors.torch import save_file

    tensors = load_file(poisoned / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, poisoned / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(TrainingFailed, match=r"the loss became nan at step 1: lower learning_rate"):
        workplace.run(model_name="poisoned")
    assert not (workplace.output / "results").exists()  # nothing came of it, the name is free


def test_what_cannot_work_is_refused_before_anything_is_trained(workplace: Workplace) -> None:
    faults: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"exports": ["gguf"]}, UnprocessableInput, "convert_hf_to_gguf.py"),
        ({"backend": "unsloth"}, UnprocessableInput, "'unsloth' cannot be used here"),
        ({"load_in_4bit": True}, UnprocessableInput, "load_in_4bit needs the backend 'unsloth'"),
        ({"target_modules": ["no_such"]}, UnprocessableInput, "target_modules: .*no_such"),
        ({"max_seq_length": 16}, UnusableData, "not usable"),
    ]
    for request, kind, text in faults:
        context = workplace.context("one", **request)
        with pytest.raises(kind, match=text):
            finish(context)
        assert not context.steps()
        assert not (workplace.output / "results").exists()


def test_a_name_belongs_to_the_job_that_took_it(workplace: Workplace) -> None:
    stop(workplace, "one", at=4)
    with pytest.raises(OutputTaken, match="'results' belongs to job one"):
        workplace.run("two")
    finish(workplace.context("one", attempt=2))
    with pytest.raises(OutputTaken):
        workplace.run("two")
    (workplace.output / "mine").mkdir()
    (workplace.output / "mine" / "notes.txt").write_text("not a job's")
    with pytest.raises(OutputTaken, match="'mine' was not made by a job"):
        workplace.run("two", output_dir="mine")
    assert (workplace.output / "mine" / "notes.txt").exists()


def test_a_job_stopped_before_its_first_step_leaves_no_name(workplace: Workplace) -> None:
    stop(workplace, "one", at=1)
    assert Checkpoints(workplace.working / "jobs" / "one" / "checkpoints", keep=1).newest() is None
    assert not (workplace.output / "results").exists()
