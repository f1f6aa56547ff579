"""A setting of the trainer is one field, which its service, its workflow and its jobs have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.finetuning.settings import TrainerSettings
from ml.jobs.settings import JobSettings
from ml.serving.settings import load_settings
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.app import Settings

SIGNERS = ("0x" + "1a" * 20, "0x" + "2B" * 20)
#: A value of each setting that jobs know, as the environment has it, and as it is then.
GIVEN: dict[str, tuple[str, Any]] = {
    "input_path": ("data/in", Path("data/in")),
    "output_path": ("/data/out", Path("/data/out")),
    "working_path": ("data/work, and more", Path("data/work, and more")),
    "files_url": ("file:///data/shared/", "file:///data/shared"),
    "copies_bytes": ("9", 9),
    "query_engine_url": ("http://queries:80/v1", "http://queries:80/v1"),
    "query_signers": (",".join(SIGNERS), SIGNERS),
    "dtype": ("float32", "float32"),
    "allowed_models": ('["owner/a", "b,c"]', ("owner/a", "b,c")),
    "report_to": ("tensorboard,trackio", ("tensorboard", "trackio")),
    "max_upload_bytes": ("7", 7),
}


def given_to(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> TrainerSettings:
    """Return what a job's process reads whose environment has these variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return TrainerSettings.from_environment()


def own(settings: TrainerSettings) -> dict[str, Any]:
    """Return the fields that jobs have, with paths as they are from any folder."""
    values = {name: getattr(settings, name) for name in GIVEN}
    return {
        name: value.absolute() if isinstance(value, Path) else value
        for name, value in values.items()
    }


def test_every_setting_that_jobs_know_is_tried_here() -> None:
    assert TrainerSettings.model_fields.keys() - JobSettings.model_fields.keys() == GIVEN.keys()


def test_what_the_service_is_told_its_workflow_and_its_jobs_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, variable in Settings.variables().items():
        if name in GIVEN:
            monkeypatch.setenv(variable, GIVEN[name][0])
    workflow = UnslothTrainerWorkflow(**load_settings(Settings).workflow_arguments())
    for name, (_, value) in GIVEN.items():
        assert getattr(workflow.settings, name) == value
    due, environment = own(workflow.settings), workflow.settings.environment()
    monkeypatch.chdir(tmp_path)  # a job works elsewhere
    assert own(given_to(environment, monkeypatch)) == due


def test_what_is_not_set_has_its_default_in_jobs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own(TrainerSettings.from_environment()) == own(TrainerSettings())
    monkeypatch.setenv("QUERY_ENGINE_URL", "http://elsewhere")
    told = UnslothTrainerWorkflow(query_engine_url=None).settings
    assert own(given_to(told.environment(), monkeypatch)) == own(TrainerSettings())


def test_arguments_of_the_workflow_win_over_the_services_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRAINER_ALLOWED_MODELS", "a,b")
    monkeypatch.setenv("TRAINER_GRACE_SECONDS", "20")
    monkeypatch.setenv("TRAINER_WORKFLOW_KW_ARGS", json.dumps({"allowed_models": ["c"]}))
    settings = UnslothTrainerWorkflow(**load_settings(Settings).workflow_arguments()).settings
    assert (settings.allowed_models, settings.grace_seconds) == (("c",), 20)


def test_no_secret_of_the_job_store_is_among_what_jobs_are_told() -> None:
    url = "postgresql://user:hunter2@host/jobs"
    settings = UnslothTrainerWorkflow(database_url=url).settings
    assert settings.store_url == url
    assert "hunter2" not in str(settings.environment())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_upload_bytes": "7"}, "max_upload_bytes: write it without quotes"),
        ({"max_upload_bytes": True}, "max_upload_bytes: give a number"),
        ({"INPUT_PATH": "x"}, "no such argument: 'INPUT_PATH'"),
        ({"uploads_path": "x"}, "no such argument: 'uploads_path'"),
    ],
)
def test_an_argument_that_is_none_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        UnslothTrainerWorkflow(**given)


@pytest.mark.parametrize("variable", ["TRAINER_INPUT_PATH", "TRAINER_QUERY_SIGNERS"])
def test_a_setting_has_one_name_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigurationError, match=f"{variable}: no such setting"):
        load_settings(Settings)
    assert os.environ[variable] == "x"
