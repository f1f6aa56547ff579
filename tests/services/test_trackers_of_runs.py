"""A trainer's run is told to the trackers that are installed here, and their tokens to nobody.

`make test-trackers` has MLflow and Weights & Biases; beside them there is TensorBoard.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.finetuning import REQUEST, save_small_llm, write_rows
from tests.support.processes import CLIENT, Server, clean_environment, free_port, until

TRACKERS = [name for name in ("tensorboard", "mlflow", "wandb") if find_spec(name)]
SECRETS = {
    "MLFLOW_TRACKING_TOKEN": "token-of-mlflow-0123456789",
    "MLFLOW_TRACKING_PASSWORD": "password-of-mlflow-0123456789",
    "WANDB_API_KEY": "0123456789abcdefabcd0123456789abcdefabcd",
}
pytestmark = pytest.mark.timeout(400)


def needs(tracker: str) -> pytest.MarkDecorator:
    missing = tracker not in TRACKERS
    return pytest.mark.skipif(missing, reason=f"{tracker} is not installed: make test-trackers")


@dataclass
class Run:
    """A run that ended, its folder, and the file of MLflow."""

    server: Server
    job_id: str
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "working" / "jobs" / self.job_id

    def losses(self) -> dict[int, float]:
        rows = self.server.get(f"/logs/{self.job_id}?limit=1000").json()["logs"]
        return {row["step"]: row["loss"] for row in rows}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("trainer")
    save_small_llm(root / "models" / "small")
    for name in ("input", "output", "working"):
        (root / name).mkdir()
    write_rows(root / "input" / "rows.jsonl", [(f"Which house is {n}?", "One.") for n in range(16)])
    environment = clean_environment(
        **SECRETS,
        **{f"{name.upper()}_PATH": str(root / name) for name in ("input", "output", "working")},
        MODELS_PATH=str(root / "models"),
        TRAINER_DTYPE="float32",
        HF_HUB_OFFLINE="1",
        HOME=str(root),
        MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlflow.db",
        WANDB_MODE="offline",
    )
    port = free_port()
    command = ["serve", "unsloth_trainer_service", f"--bind=127.0.0.1:{port}"]
    with Server(command, port=port, environment=environment) as server:
        server.wait_ready()
        body = REQUEST | {"output_dir": "tuned", "report_to": TRACKERS}
        reply = CLIENT.post(f"{server.url}/finetune", json=body)
        assert reply.status_code == 200, reply.text
        job_id = reply.json()["job_id"]
        until(lambda: view(server, job_id)["status"] not in ("queued", "running"), "it ends", 240)
        assert view(server, job_id)["status"] == "succeeded", view(server, job_id)
        yield Run(server, job_id, root)


def view(server: Server, job_id: str) -> Any:
    return server.get(f"/jobs/{job_id}").json()


def test_no_tracker_failed(run: Run) -> None:
    events = run.server.get(f"/jobs/{run.job_id}/events", headers={"Accept": "application/json"})
    assert "could not be told" not in events.text
    assert len(run.losses()) == REQUEST["max_steps"]


def test_a_trackers_tokens_are_in_no_reply_log_or_file(run: Run) -> None:
    paths = ["/config", f"/jobs/{run.job_id}", f"/logs/{run.job_id}", "/jobs", "/metrics"]
    told = {path: run.server.get(path).text for path in paths}
    told["the service's log"] = run.server.stdout + run.server.stderr
    files = [file for file in run.root.rglob("*") if file.is_file()]
    assert run.folder / "run.json" in files
    told |= {str(file): file.read_bytes().decode("latin-1") for file in files}
    for name, secret in SECRETS.items():
        assert [place for place, text in told.items() if secret in text] == [], name


@needs("mlflow")
def test_mlflow_has_the_losses_of_the_log_under_the_jobs_name(run: Run) -> None:
    with closing(sqlite3.connect(run.root / "mlflow.db")) as database:
        found = database.execute("select name, status from runs").fetchall()
        losses = dict(database.execute("select step, value from metrics where key = 'loss'"))
    assert found == [(run.job_id, "FINISHED")]
    assert losses == pytest.approx(run.losses())


@needs("wandb")
def test_wandb_has_the_losses_in_the_jobs_folder_and_no_console_or_code(run: Run) -> None:
    [folder] = (run.folder / "wandb").glob(f"offline-run-*-{run.job_id}")
    record = (folder / f"run-{run.job_id}.wandb").read_bytes()
    for loss in run.losses().values():
        assert f"{loss:.12g}"[:8].encode() in record
    names = {file.name for file in folder.rglob("*") if file.is_file()}
    assert not names & {"output.log", "diff.patch", "code"}


@pytest.mark.skipif("wandb" in TRACKERS, reason="wandb is installed")
def test_a_tracker_that_is_not_installed_is_refused_before_there_is_a_job(run: Run) -> None:
    body = REQUEST | {"output_dir": "other", "report_to": ["wandb"]}
    reply = CLIENT.post(f"{run.server.url}/finetune", json=body)
    assert reply.status_code == 422
    assert "pip install wandb" in reply.json()["description"]
    assert "other" not in run.server.get("/jobs").text
