"""Validation on a data set of its own, and the numbers that a run leaves."""

from __future__ import annotations

import csv
import io

import pytest

from ml.errors import NotFound
from ml.finetuning.uploads import Uploads
from tests.support.finetuning import Workplace, write_rows

STEPS = 4
SHORT = {"max_steps": STEPS, "save_steps": 100, "per_device_train_batch_size": 1}


def test_the_last_step_is_evaluated_on_the_validation_data_alone(workplace: Workplace) -> None:
    pairs = [(f"Which colour has house {n}?", "It is red.") for n in range(20, 23)]
    write_rows(workplace.input / "held_out.jsonl", pairs)
    result, context = workplace.run(validation_dataset_name="held_out.jsonl", **SHORT)
    [evaluation] = [data for data in context.of("progress") if "eval_loss" in data]
    assert evaluation["step"] == STEPS
    assert result["training"]["eval_loss_last"] == evaluation["eval_loss"] > 0
    assert "Training on 16 examples" in [data["message"] for data in context.of("status")]

    uploads = Uploads(workplace.working / "files")
    [file_id] = result["result_files"]
    entry = uploads.entry(file_id)
    assert entry["purpose"] == "fine-tune-results"
    with io.TextIOWrapper(uploads.stored(entry).open(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train_loss"]) for row in rows] == [data["loss"] for data in context.steps()]
    valid = [row["valid_loss"] for row in rows]
    assert valid == ["", "", "", str(evaluation["eval_loss"])]


def test_validation_data_that_is_not_there_fails_the_job(workplace: Workplace) -> None:
    with pytest.raises(NotFound, match="no file"):
        workplace.run(validation_dataset_name="nothing.jsonl", **SHORT)
