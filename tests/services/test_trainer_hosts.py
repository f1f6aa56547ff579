"""Two trainers on hosts that share a PostgreSQL and an address of files, and no folder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.finetuning import REQUEST, save_small_llm, write_rows
from tests.support.jobs import postgresql_server
from tests.support.object_store import object_store, there_is_an_object_store
from tests.support.processes import CLIENT, Server, children_of, clean_environment, free_port, until

STEPS = 120


@pytest.fixture(params=["file", "s3"])
def shared(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The variables of hosts that share files, in which training data lies."""
    write_rows(
        tmp_path / "rows.jsonl", [(f"Which house is {n}?", f"It is {n}.") for n in range(16)]
    )
    if request.param == "file":
        (tmp_path / "there" / "input").mkdir(parents=True)
        shutil.copy(tmp_path / "rows.jsonl", tmp_path / "there" / "input")
        yield {"TRAINER_FILES_URL": f"file://{tmp_path / 'there'}"}
        return
    if not there_is_an_object_store():
        pytest.skip("s3fs and moto are not installed: make test-s3")
    from ml.jobs.remote_files import RemoteFiles

    with object_store() as store:
        for name, value in store.variables.items():
            monkeypatch.setenv(name, value)
        RemoteFiles(store.url).upload(tmp_path / "rows.jsonl", "input/rows.jsonl")
        yield {"TRAINER_FILES_URL": store.url, **store.variables}


def test_a_host_goes_on_with_the_job_of_one_that_died_and_serves_what_comes_of_it(
    shared: dict[str, str], tmp_path: Path
) -> None:
    save_small_llm(tmp_path / "models" / "small")
    with postgresql_server() as postgresql:
        variables = shared | {
            "TRAINER_DATABASE_URL": postgresql.new_database(),
            "TRAINER_WORKFLOW_POSITIONAL_ARGS": '["small"]',
            "TRAINER_DTYPE": "float32",
            "MODELS_PATH": str(tmp_path / "models"),
            "HF_HUB_OFFLINE": "1",
        }
        with host(tmp_path / "first", variables) as first:
            request = REQUEST | {"max_steps": STEPS, "save_steps": 5, "output_dir": "tuned"}
            reply = CLIENT.post(f"{first.url}/finetune", json=request)
            assert reply.status_code == 200, reply.text
            job_id = reply.json()["job_id"]
            until(lambda: view(first, job_id)["progress"].get("step", 0) >= 10, "it trains")
            kill(first)
        shutil.rmtree(tmp_path / "first")
        with host(tmp_path / "second", variables) as second:
            until(lambda: view(second, job_id)["status"] == "interrupted", "its end is seen")
            assert CLIENT.post(f"{second.url}/jobs/{job_id}/resume").is_success
            ended = ("succeeded", "failed", "interrupted")
            until(lambda: view(second, job_id)["status"] in ended, "it ends")
            job = view(second, job_id)
            assert job["status"] == "succeeded", job
            log = second.get(f"/logs/{job_id}?limit=1000").json()["logs"]
            assert [line["step"] for line in log] == list(range(1, STEPS + 1))
            body = {"model_path": "tuned", "prompt": "Which house is 3?", "max_new_tokens": 4}
            reply = CLIENT.post(f"{second.url}/inference", json=body)
            assert reply.status_code == 200, reply.text
            assert reply.json()["completion_tokens"] > 0
            told = second.stdout + second.stderr
        assert shared.get("AWS_SECRET_ACCESS_KEY", "nothing of it") not in told


def host(folder: Path, variables: dict[str, str]) -> Server:
    folder.mkdir()
    port = free_port()
    environment = clean_environment(**variables, WORKING_PATH=str(folder))
    command = ["serve", "unsloth_trainer_service", f"--bind=127.0.0.1:{port}"]
    server = Server(command, port=port, environment=environment)
    return server.wait_ready()


def view(server: Server, job_id: str) -> Any:
    return server.get(f"/jobs/{job_id}").json()


def kill(server: Server) -> None:
    """End all processes of a host at once."""
    pids = [server.process.pid]
    for pid in pids:
        pids += children_of(pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
