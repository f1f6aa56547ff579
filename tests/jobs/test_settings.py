"""What jobs run on, chosen by settings and by their requests."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from ml.errors import ConfigurationError, fault_lines
from ml.jobs.executors.choice import EXECUTORS, executor_class
from ml.jobs.job import Job, JobState
from ml.jobs.resources import Resources
from ml.jobs.settings import JobSettings
from ml.serving.settings import load_settings
from tests.support.processes import clean_environment

RAY = {
    "database_url": "postgresql://somebody:secret@host/jobs",
    "ray_address": "http://head:8265",
    "ray_token": "secret",
}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"executor": "locl"}, "executor: 'locl' is none of "),
    ({"executor": "locl"}, "did you mean 'local'?"),
    ({"job_gpus": 1}, "job_gpus: executor 'local' reserves nothing for a job; leave it out"),
    ({"job_slots": 0}, "job_slots: "),
    ({"grace_seconds": 51}, "grace_seconds: "),
    ({"lost_seconds": 1}, "lost_seconds: "),
    (
        {"executor": "ray", "ray_address": "http://head:8265", "ray_token": "secret"},
        "executor: 'ray' runs jobs on other hosts, which cannot write into a SQLite file",
    ),
    ({"executor": "ray", **RAY, "ray_address": None}, "ray_address: executor 'ray' needs it"),
    ({"executor": "ray", **RAY, "ray_token": None}, "ray_token: executor 'ray' needs it"),
    ({"ray_address": "ray://secret@head:10001"}, "ray_address: give an address such as http"),
    ({"database_url": "mysql://somebody:secret@host/jobs"}, "database_url: the job store is"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_a_setting_that_cannot_work_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        JobSettings(**given)
    [line] = fault_lines(refused.value)
    assert told in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("service", "prefix"),
    [("unsloth_trainer_service", "TRAINER_"), ("ezkl_proof_service", "EZKL_")],
)
def test_each_service_with_jobs_reads_them_under_its_prefix(
    monkeypatch: pytest.MonkeyPatch, service: str, prefix: str
) -> None:
    settings = importlib.import_module(f"{service}.app").Settings
    monkeypatch.setenv(f"{prefix}LOST_SECONDS", "90")
    arguments = load_settings(settings).workflow_arguments()
    assert (arguments["executor"], arguments["lost_seconds"]) == ("local", 90)
    monkeypatch.setenv(f"{prefix}EXECUTOR", "locl")
    with pytest.raises(ConfigurationError, match=rf"{prefix}EXECUTOR: 'locl' .* mean 'local'"):
        load_settings(settings)


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_has_its_name_in_one_table(name: str) -> None:
    assert executor_class(name).__name__.lower() == f"{name}executor"


def test_an_executor_that_is_not_chosen_is_not_imported() -> None:
    code = (
        "import sys; from ml.jobs.executors.choice import executor_class;"
        "import ml.jobs.engine, ml.jobs.scheduler; executor_class('local'); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    folder = "ml.jobs.executors."
    loaded = {name for name in done.stdout.split() if name.startswith(folder)}
    assert loaded == {f"{folder}{name}" for name in ("choice", "executor", "local")}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, Resources(cpus=2, gpus=0)),
        ({"resources": None}, Resources(cpus=2, gpus=0)),
        ({"resources": {"gpus": 1}}, Resources(cpus=2, gpus=1)),
        (
            {"resources": {"cpus": 0.5, "memory_bytes": 7}},
            Resources(cpus=0.5, gpus=0, memory_bytes=7),
        ),
        ({"resources": {"gpus": 1}, "num_workers": 4}, Resources(cpus=8, gpus=4)),
    ],
)
def test_a_job_gets_what_it_wishes_for_and_else_what_the_settings_say(
    request_: dict[str, Any], expected: Resources
) -> None:
    job = Job("a", "some.kind", JobState.RUNNING, request_, 0.0)
    assert Resources.of(job, Resources(cpus=2, gpus=0)) == expected


def test_each_worker_of_a_job_gets_a_processor_at_least() -> None:
    job = Job("a", "some.kind", JobState.RUNNING, {"num_workers": 3}, 0.0)
    assert Resources.of(job, Resources(memory_bytes=7)) == Resources(cpus=3, memory_bytes=21)
