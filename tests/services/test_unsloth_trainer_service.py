"""The trainer service as its two documents describe it, on the embedded model."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from eth_abi.abi import decode, encode

from ml.finetuning.request_body import read_request
from tests.services.conftest import ServeExample
from tests.support.event_reader import read_events
from tests.support.processes import ROOT, Server, until

#: The first test that asks for it waits for a whole run of training.
pytestmark = pytest.mark.timeout(400)

NAME = "unsloth_trainer_service"
MODEL = "SmolLM2-135M-Instruct"
DATA = ROOT / "examples" / "finetuning"
QUESTION = "Who is the mayor of Ostwick Harbour?"
STEPS = 30
#: Short, so that a run takes half a minute on two cores.
QUICK = {
    "model_name": MODEL,
    "max_seq_length": 128,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 4e-3,
}
TRAINED = {**QUICK, "dataset_name": "ostwick_harbour", "max_steps": STEPS, "output_dir": "ostwick"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("trainer")
    shutil.copytree(DATA, root / "input")
    return {
        "INPUT_PATH": root / "input",
        "OUTPUT_PATH": root / "output",
        "WORKING_PATH": root / "w",
    }


@pytest.fixture(scope="module")
def service(serve_example: ServeExample, folders: dict[str, Path]) -> Server:
    return serve_example(NAME, **{name: str(path) for name, path in folders.items()})


@pytest.fixture(scope="module")
def trained(service: Server) -> dict[str, Any]:
    """The job of a whole run, asked for as the document does."""
    reply = httpx.post(f"{service.url}/finetune", json=TRAINED, timeout=60)
    assert reply.status_code == 200, reply.text
    started = reply.json()
    assert started["status"] == "queued"
    assert started["message"] == "Finetuning job has been queued and will start shortly"
    assert started["dashboard_url"] == f"{service.url}/dashboard"
    return wait_for(service, started["job_id"])


def get(service: Server, path: str) -> Any:
    reply = service.get(path)
    assert reply.status_code == 200, reply.text
    return reply.json()


def wait_for(service: Server, job_id: str, *states: str, seconds: float = 300) -> dict[str, Any]:
    """Wait until a job has ended, or is in one of these states."""
    ends = states or ("succeeded", "failed", "cancelled", "interrupted")

    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = get(service, f"/jobs/{job_id}")
        return job if job["status"] in ends else None

    job: dict[str, Any] = until(ended, f"{job_id} {ends}", seconds)
    return job


def events(service: Server, job_id: str, **headers: str) -> list[dict[str, Any]]:
    """Read a job's events to their end."""
    return read_events(f"{service.url}/train/{job_id}/events", headers)


def infer(service: Server, model: str, prompt: str = QUESTION, **fields: Any) -> str:
    body = {"model_path": model, "prompt": prompt, "max_new_tokens": 24, "temperature": 0, **fields}
    reply = httpx.post(f"{service.url}/inference", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["text"])


# --- a whole run ----------------------------------------------------------------------------


def test_a_run_ends_with_a_lower_loss_and_says_what_came_of_it(trained: dict[str, Any]) -> None:
    assert trained["status"] == "succeeded", trained["error"]
    assert trained["error"] is None
    assert trained["progress"]["step"] == trained["progress"]["total_steps"] == STEPS
    training = trained["result"]["training"]
    assert training["loss_last"] < training["loss_first"] / 2
    assert trained["result"]["backend"] == "trl"


def test_its_log_has_exactly_the_documents_fields(
    service: Server, trained: dict[str, Any], folders: dict[str, Path]
) -> None:
    logs = get(service, f"/logs/{trained['job_id']}")["logs"]
    assert [entry["step"] for entry in logs] == list(range(1, STEPS + 1))
    fields = "timestamp type level message step epoch step_time learning_rate loss grad_norm"
    for entry in logs:
        assert set(entry) == set(fields.split())
        assert entry["type"] == "training_step"
    assert len(trained["logs"]) <= len(logs)
    assert trained["logs"][-1] == logs[-1]
    assert get(service, f"/logs/{trained['job_id']}?limit=3")["logs"] == logs[-3:]
    file = folders["OUTPUT_PATH"] / "ostwick" / "training_logs.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()] == logs


def test_its_events_are_whole_and_in_order_however_often_they_are_read(
    service: Server, trained: dict[str, Any]
) -> None:
    job_id = trained["job_id"]
    first, *stored = events(service, job_id)
    assert first["event"] == "init"
    assert first["data"]["job_id"] == job_id
    assert [int(event["id"]) for event in stored] == list(range(1, len(stored) + 1))
    progress = [event["data"] for event in stored if event["event"] == "progress"]
    assert [data["step"] for data in progress] == list(range(1, STEPS + 1))
    assert all(data["total_steps"] == STEPS for data in progress)
    assert progress[-1]["progress"] == 100
    assert stored[-1]["event"] == "complete"
    half = len(stored) // 2
    for rest in (
        events(service, job_id, **{"Last-Event-ID": str(half)}),
        events(service, f"{job_id}", **{"Last-Event-ID": f"{half}"}),
    ):
        assert rest[1:] == stored[half:]
    assert service.get(f"/train/{job_id}/events?after={len(stored)}").status_code == 204
    history = get(service, f"/train/{job_id}/events/history")["events"]
    assert [(event["id"], event["type"], event["data"]) for event in history] == [
        (int(event["id"]), event["event"], event["data"]) for event in stored
    ]


def test_the_tuned_model_answers_at_once_and_the_base_is_as_it_was(
    service: Server, trained: dict[str, Any]
) -> None:
    models = get(service, "/inference/models")
    assert models["base_model"] == MODEL
    assert "ostwick" in {model["model_path"] for model in models["models"]}
    assert "Petra Halloway" in infer(service, "ostwick")
    assert "Petra" not in infer(service, MODEL)
    lines = (DATA / "ostwick_harbour_held_out.jsonl").read_text().splitlines()
    held_out = [json.loads(line) for line in lines]
    tuned = [infer(service, "ostwick", row["instruction"]) for row in held_out]
    base = [infer(service, MODEL, row["instruction"]) for row in held_out]
    assert sum(a != b for a, b in zip(tuned, base, strict=True)) > len(held_out) / 2


def test_every_api_knows_the_tuned_model(service: Server, trained: dict[str, Any]) -> None:
    text = infer(service, "ostwick")
    body = {"model_path": "ostwick", "prompt": QUESTION, "max_new_tokens": 24, "temperature": 0}
    with httpx.stream(
        "POST", f"{service.url}/inference", json={**body, "stream": True}, timeout=60
    ) as reply:
        pieces = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]
    assert "".join(piece.get("text", "") for piece in pieces) == text
    assert pieces[-1]["done"]
    chat = {"model": "ostwick", "messages": [{"role": "user", "content": QUESTION}]}
    for path in ("/v1/chat/completions", "/inference/chat/completions"):
        reply = httpx.post(f"{service.url}{path}", json={**chat, "max_tokens": 24}, timeout=60)
        assert reply.json()["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("model", ["nobody", "../ostwick", "/etc"])
def test_an_unknown_model_is_not_found(service: Server, model: str) -> None:
    body = {"model_path": model, "prompt": "x"}
    assert httpx.post(f"{service.url}/inference", json=body).status_code == 404


def test_the_archive_loads_in_plain_peft(
    trained: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from ml.models.embedded_llm import embedded_llm_path

    with zipfile.ZipFile(folders["OUTPUT_PATH"] / "ostwick.zip") as archive:
        archive.extractall(tmp_path)
    [config] = tmp_path.rglob("adapter_config.json")
    base = AutoModelForCausalLM.from_pretrained(embedded_llm_path())
    assert PeftModel.from_pretrained(base, config.parent).peft_config


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/finetune", {**TRAINED, "max_step": 3}, "did you mean 'max_steps'"),
        ("/finetune", {**TRAINED, "learning_rate": "fast"}, "learning_rate: "),
        ("/finetune", {**TRAINED, "output_dir": "../../etc"}, "output_dir: "),
        ("/finetune", {**TRAINED, "output_dir": "/etc"}, "output_dir: "),
        ("/finetune", {**TRAINED, "model_name": "../model", "output_dir": "x"}, "model_name: "),
        ("/finetune", {**QUICK, "output_dir": "x"}, "exactly one of dataset_name"),
        ("/finetune", [], "JSON object"),
        ("/train", {"model_name": MODEL, "query_id": "q"}, "output_dir: "),
        (
            "/train",
            {
                "model_name": MODEL,
                "output_dir": "x",
                "training_params": {"num_epoch": 1},
                "query_id": "q",
            },
            "num_epoch",
        ),
    ],
)
def test_a_wrong_request_is_a_422_that_names_the_field(
    service: Server, path: str, body: Any, message: str
) -> None:
    before = get(service, "/jobs")["jobs"]
    reply = httpx.post(service.url + path, json=body, timeout=30)
    assert reply.status_code == 422, reply.text
    assert message in reply.json()["description"]
    assert get(service, "/jobs")["jobs"] == before


def test_a_name_that_is_taken_is_not_trained_again(
    service: Server, trained: dict[str, Any]
) -> None:
    reply = httpx.post(f"{service.url}/finetune", json=TRAINED, timeout=60)
    assert reply.status_code == 422
    assert "'ostwick' already" in reply.json()["description"]


def test_data_is_looked_at_before_anything_is_queued(
    service: Server, folders: dict[str, Path]
) -> None:
    good = httpx.post(f"{service.url}/datasets/validate", json=TRAINED, timeout=60)
    assert good.status_code == 200
    assert good.json()["usable"] == good.json()["rows"] > 40
    assert any(part["trained"] for part in good.json()["samples"][0])
    (folders["INPUT_PATH"] / "bad.jsonl").write_text('{"instruction": "a"}\n{"broken\n')
    body = {**TRAINED, "dataset_name": "bad", "output_dir": "bad"}
    bad = httpx.post(f"{service.url}/datasets/validate", json=body, timeout=60)
    assert bad.status_code == 422
    assert bad.json()["faults"][0]["line"] == 1
    refused = httpx.post(f"{service.url}/finetune", json=body, timeout=60)
    assert refused.status_code == 422
    assert "line 1" in refused.json()["description"]
    missing = httpx.post(f"{service.url}/finetune", json={**body, "dataset_name": "none"})
    assert missing.status_code == 404
    formats = get(service, "/datasets/formats")["formats"]
    assert {"instruction", "messages", "sharegpt"} <= {entry["name"] for entry in formats}


@pytest.mark.parametrize("path", ["/jobs/none", "/train/none", "/logs/none", "/train/none/events"])
def test_an_unknown_job_is_not_found(service: Server, path: str) -> None:
    reply = service.get(path)
    assert reply.status_code == 404
    assert "none" in reply.json()["description"]


def test_finetune_takes_a_query_beside_its_own_parameters() -> None:
    body = {"model_name": MODEL, "query_id": "q", "max_steps": 3, "output_dir": "x"}
    assert read_request(body).max_steps == 3
    assert read_request({k: v for k, v in body.items() if k != "max_steps"}).max_steps == -1


@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs?limit=²", "/v1/fine_tuning/jobs?limit=0"])
def test_a_limit_that_is_no_number_is_a_400(service: Server, path: str) -> None:
    assert service.get(path).status_code == 400


# --- the queue, stopping and going on -------------------------------------------------------


@pytest.fixture
def long_job(service: Server, trained: dict[str, Any]) -> Iterator[str]:
    """A job that has made a few steps; it is cancelled at the end."""
    body = {**TRAINED, "max_steps": 1000, "save_steps": 2, "output_dir": "./results"}
    job_id = httpx.post(f"{service.url}/finetune", json=body, timeout=60).json()["job_id"]
    until(lambda: get(service, f"/jobs/{job_id}")["progress"].get("step", 0) >= 3, "steps", 60)
    yield job_id
    if get(service, f"/jobs/{job_id}")["status"] not in ("cancelled", "failed"):
        httpx.delete(f"{service.url}/jobs/{job_id}")
        wait_for(service, job_id)


def test_jobs_wait_their_turn_and_leave_the_queue_when_cancelled(
    service: Server, long_job: str
) -> None:
    body = {**TRAINED, "output_dir": "waits"}
    waiting = httpx.post(f"{service.url}/finetune", json=body, timeout=60).json()["job_id"]
    view = get(service, f"/jobs/{waiting}")
    assert (view["status"], view["position"]) == ("queued", 1)
    listed = [job["job_id"] for job in get(service, "/jobs?status=queued")["jobs"]]
    assert listed == [waiting]
    cancelled = httpx.delete(f"{service.url}/jobs/{waiting}").json()
    assert cancelled["status"] == "cancelled"
    assert httpx.delete(f"{service.url}/jobs/{waiting}").status_code == 409


def test_while_a_job_trains_the_service_lives_and_answers(service: Server, long_job: str) -> None:
    times = []
    for _ in range(40):
        reply = service.get("/health/live")
        assert reply.status_code == 200
        times.append(reply.elapsed.total_seconds())
    assert sorted(times)[len(times) // 2] < 0.1
    assert "Petra" in infer(service, "ostwick")


def test_a_cancelled_job_saves_and_goes_on_where_it_was(service: Server, long_job: str) -> None:
    assert httpx.delete(f"{service.url}/jobs/{long_job}").json()["message"] == "Job saves and stops"
    job = wait_for(service, long_job)
    assert job["status"] == "cancelled"
    assert job["resumable"]
    step = job["progress"]["step"]
    resumed = httpx.post(f"{service.url}/jobs/{long_job}/resume")
    assert resumed.status_code == 202
    until(lambda: get(service, f"/jobs/{long_job}")["progress"].get("step", 0) > step, "on", 60)
    logged = [entry["step"] for entry in get(service, f"/logs/{long_job}")["logs"]]
    assert logged == sorted(set(logged))


def test_a_killed_child_leaves_a_failed_job_that_says_so(service: Server, long_job: str) -> None:
    child = child_of(service, long_job)
    os.kill(child, signal.SIGKILL)
    job = wait_for(service, long_job, "failed", "interrupted")
    assert "SIGKILL" in job["reason"]
    assert job["resumable"]


def child_of(service: Server, job_id: str) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if job_id.encode() in words:
            return int(path.parent.name)
    raise AssertionError(f"no process of {job_id}")


def test_many_watch_one_job(service: Server, trained: dict[str, Any]) -> None:
    """Two hundred subscribers each get all of it."""
    results: list[int] = []

    def watch() -> None:
        results.append(len(events(service, trained["job_id"])))

    threads = [threading.Thread(target=watch) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(results) == 200
    assert len(set(results)) == 1


# --- other ways to ask ----------------------------------------------------------------------


def test_openais_client_drives_a_whole_run(service: Server, trained: dict[str, Any]) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        file = client.files.create(file=DATA / "ostwick_harbour.jsonl", purpose="fine-tune")
        assert client.files.retrieve(file.id).filename == "ostwick_harbour.jsonl"
        assert file.id in [one.id for one in client.files.list()]
        job = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=file.id,
            suffix="harbour",
            seed=1,
            hyperparameters={"n_epochs": 1, "batch_size": 8, "max_seq_length": 128},
        )
        assert job.status == "queued"
        wait_for(service, job.id)
        job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        assert str(job.fine_tuned_model).startswith("harbour-")
        events_ = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
        assert any(event.type == "metrics" for event in events_)
        assert next(iter(client.fine_tuning.jobs.checkpoints.list(job.id))).step_number > 0
        assert job.id in [one.id for one in client.fine_tuning.jobs.list(limit=2)]
        answer = client.chat.completions.create(
            model=str(job.fine_tuned_model),
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=8,
        )
        assert answer.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            client.fine_tuning.jobs.retrieve("ftjob_none")
        with pytest.raises(openai.NotFoundError):
            client.fine_tuning.jobs.create(model=MODEL, training_file="file-none")
        assert client.files.delete(file.id).deleted


def test_service_output_starts_jobs_and_asks_for_them(
    service: Server, trained: dict[str, Any]
) -> None:
    state = service.post({"job_id": trained["job_id"]}).json()
    assert state["status"] == "succeeded"
    started = service.post({**TRAINED, "max_steps": 1, "output_dir": "off-chain"}).json()
    assert started["status"] == "queued"
    params = json.dumps({**QUICK, "max_steps": 1, "output_dir": "on-chain"})
    data = encode(["string"] * 3, [MODEL, "ostwick_harbour", params]).hex()
    reply = service.post(data, source=0).json()
    (job_id,) = decode(["string"], bytes.fromhex(reply["raw_output"]))
    assert wait_for(service, started["job_id"])["status"] == "succeeded"
    assert wait_for(service, job_id)["status"] == "succeeded"
    assert service.post("00ff", source=0).status_code == 400


def test_the_dashboard_is_told_to_programs_and_shown_to_browsers(service: Server) -> None:
    assert get(service, "/dashboard")["dashboard_url"] == f"{service.url}/dashboard"
    page = service.get("/dashboard", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")


def test_the_commands_of_the_document_lead_to_answers(
    service: Server, trained: dict[str, Any], folders: dict[str, Path]
) -> None:
    """With fewer steps than there."""
    text = (
        (ROOT / "docs" / "finetuning.md").read_text().replace('"max_steps": 40', '"max_steps": 2')
    )
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks).replace("http://localhost:8000", service.url)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=os.environ | {"INPUT_PATH": str(folders["INPUT_PATH"])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("event: complete") == 2, ran.stdout[-2000:]
    assert '"model_path":"harbour"' in ran.stdout
    names = {model["name"] for model in get(service, "/inference/models")["models"]}
    assert {"harbour", "harbour_by_query"} <= names
