"""Trackers are told a run's numbers, and none of them can end it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ml.errors import UnprocessableInput
from ml.finetuning import job
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.trackers import require_trackers, variables_of
from tests.support.finetuning import Context, Workplace


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a job's process may set for its trackers."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def losses(context: Context) -> dict[int, float]:
    return {data["step"]: data["loss"] for data in context.steps()}


def tensorboard_losses(folder: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("train/loss")]


def trackio_losses(folder: Path) -> dict[int, float]:
    [file] = folder.glob("*.db")
    with closing(sqlite3.connect(file)) as database:
        rows = [json.loads(text) for (text,) in database.execute("select metrics from metrics")]
    return {row["train/global_step"]: row["train/loss"] for row in rows if "train/loss" in row}


def warnings(context: Context) -> list[str]:
    return [data["message"] for data in context.of("log") if data["level"] == "WARNING"]


def test_tensorboard_has_the_losses_of_the_log_in_the_jobs_folder(workplace: Workplace) -> None:
    _, context = workplace.run("one", report_to=["tensorboard"])
    assert warnings(context) == []
    told = tensorboard_losses(workplace.working / "jobs" / "one" / "tensorboard")
    assert [step for step, _ in told] == list(range(1, 9))
    assert dict(told) == pytest.approx(losses(context), rel=1e-6)


def test_trackio_has_the_losses_of_the_log_under_the_working_path(workplace: Workplace) -> None:
    _, context = workplace.run("one", report_to=["trackio"])
    assert warnings(context) == []
    assert trackio_losses(workplace.working / "trackio") == pytest.approx(losses(context))


def test_a_tracker_that_fails_is_a_warning_and_gets_no_more(workplace: Workplace) -> None:
    (workplace.working / "jobs" / "one").mkdir(parents=True)
    (workplace.working / "jobs" / "one" / "tensorboard").write_text("no folder")
    _, context = workplace.run("one", report_to=["tensorboard"])
    [warning] = warnings(context)
    assert warning.startswith("tensorboard could not be told (FileExistsError)")
    assert len(context.steps()) == 8


def test_a_run_that_goes_on_replaces_what_tensorboard_knew_of_later_steps(
    workplace: Workplace,
) -> None:
    workplace.run("one", report_to=["tensorboard"])
    folder = workplace.working / "jobs" / "one"
    for step in (6, 8):
        shutil.rmtree(folder / "checkpoints" / f"checkpoint-{step}")
    again = workplace.context("one", attempt=2, report_to=["tensorboard"])
    job.run(again)  # type: ignore[arg-type]
    assert [step for step, _ in tensorboard_losses(folder / "tensorboard")] == list(range(1, 9))


@pytest.mark.parametrize(("given", "read"), [("none", []), ("trackio", ["trackio"]), (None, None)])
def test_one_tracker_may_be_given_by_its_name(given: object, read: object) -> None:
    assert FinetuningRequest(dataset_name="a", report_to=given).report_to == read


def test_what_a_tracker_lacks_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnprocessableInput, match="'wandb' is not installed here: pip install"):
        require_trackers(["wandb"], is_installed=lambda package: False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UnprocessableInput, match="'mlflow' needs MLFLOW_TRACKING_URI in"):
        require_trackers(["mlflow"], is_installed=lambda package: True)


def test_a_jobs_process_elsewhere_is_given_the_trackers_variables_alone() -> None:
    all_of_them = {"WANDB_API_KEY": "k", "MLFLOW_TRACKING_URI": "http://m", "AWS_SECRET": "s"}
    assert variables_of(all_of_them) == {"WANDB_API_KEY": "k", "MLFLOW_TRACKING_URI": "http://m"}
