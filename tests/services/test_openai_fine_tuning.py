"""OpenAI's fine-tuning client, unchanged: from the upload to the tuned model's answer."""

from __future__ import annotations

import csv
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.services.conftest import ServeExample
from tests.support.finetuning import save_small_llm
from tests.support.processes import Server, until

pytestmark = pytest.mark.timeout(400)

MODEL = "small"
MOST_BYTES = 24_000_000
METADATA = {"team": "harbour", "run": "7"}
QUESTION = [{"role": "user", "content": "Which colour has house 3?"}]
QUICK = {"max_seq_length": 128, "lora_r": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("trainer")
    names = ("INPUT_PATH", "OUTPUT_PATH", "WORKING_PATH", "MODELS_PATH")
    paths = {name: root / name.lower() for name in names}
    for path in paths.values():
        path.mkdir()
    save_small_llm(paths["MODELS_PATH"] / MODEL)
    return paths


@pytest.fixture(scope="module")
def service(serve_example: ServeExample, folders: dict[str, Path]) -> Server:
    return serve_example(
        "unsloth_trainer_service",
        TRAINER_WORKFLOW_POSITIONAL_ARGS=json.dumps([MODEL]),
        TRAINER_MAX_UPLOAD_BYTES=str(MOST_BYTES),
        TRAINER_DTYPE="float32",
        **{name: str(path) for name, path in folders.items()},
    )


@pytest.fixture(scope="module")
def client(service: Server) -> Iterator[openai.OpenAI]:
    url = f"{service.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def conversations(first: int, number: int) -> bytes:
    """Return rows as OpenAI's guide has them."""
    colours = ("red", "blue", "green", "white")
    rows = []
    for house in range(first, first + number):
        user = {"role": "user", "content": f"Which colour has house {house}?"}
        answer = {"role": "assistant", "content": f"It is {colours[house % 4]}."}
        rows.append(json.dumps({"messages": [user, answer]}))
    return "\n".join(rows).encode()


@pytest.fixture(scope="module")
def files(client: openai.OpenAI) -> tuple[str, str]:
    """The ids of a training and a validation file."""
    names = {"train.jsonl": conversations(0, 16), "valid.jsonl": conversations(16, 4)}
    train, valid = (
        client.files.create(file=(name, rows), purpose="fine-tune") for name, rows in names.items()
    )
    return train.id, valid.id


def wait_for(client: openai.OpenAI, job_id: str, *states: str) -> FineTuningJob:
    ends = states or ("succeeded", "failed", "cancelled", "paused")

    def ended() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ends else None

    job: FineTuningJob = until(ended, f"{job_id} {ends}", 300)
    return job


@pytest.fixture(scope="module")
def tuned(client: openai.OpenAI, files: tuple[str, str]) -> FineTuningJob:
    """A job that succeeded, asked for as the newest client does."""
    training, validation = files
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=training,
        validation_file=validation,
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": 2,
                    "batch_size": 4,
                    "learning_rate_multiplier": 25.0,
                    **QUICK,  # type: ignore[typeddict-item]
                    "save_steps": 3,
                }
            },
        },
        suffix="colours",
        seed=1,
        metadata=METADATA,
    )
    assert job.status == "queued"
    job = wait_for(client, job.id)
    assert job.status == "succeeded", job.error
    return job


def test_a_job_says_what_was_asked_and_what_came_of_it(
    tuned: FineTuningJob, files: tuple[str, str]
) -> None:
    assert (tuned.training_file, tuned.validation_file) == files
    assert tuned.metadata == METADATA
    assert tuned.seed == 1
    assert tuned.method is not None
    assert tuned.method.supervised is not None
    for numbers in (tuned.hyperparameters, tuned.method.supervised.hyperparameters):
        assert numbers is not None
        assert (numbers.n_epochs, numbers.batch_size) == (2, 4)
        assert numbers.learning_rate_multiplier == 25
    assert str(tuned.fine_tuned_model).startswith("colours-")
    assert (tuned.trained_tokens or 0) > 0
    assert tuned.finished_at is not None


def test_its_numbers_are_a_table_of_its_steps(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    [file_id] = tuned.result_files
    file = client.files.retrieve(file_id)
    assert (file.filename, file.purpose) == ("step_metrics.csv", "fine-tune-results")
    content = client.files.content(file_id).text
    assert len(content) == file.bytes
    rows = list(csv.DictReader(io.StringIO(content)))
    columns = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert content.splitlines()[0] == columns
    steps = [int(row["step"]) for row in rows]
    assert steps == list(range(1, 2 * 16 // 4 + 1))  # 2 epochs of 16 rows, 4 rows a step
    events = list(client.fine_tuning.jobs.list_events(tuned.id, limit=100))
    told = {event.data["step"]: event.data["loss"] for event in events if "loss" in event.data}
    assert {int(row["step"]): float(row["train_loss"]) for row in rows} == told
    assert float(rows[-1]["valid_loss"]) > 0
    checkpoint = next(iter(client.fine_tuning.jobs.checkpoints.list(tuned.id)))
    assert checkpoint.metrics.valid_loss == float(rows[-1]["valid_loss"])
    assert checkpoint.step_number == steps[-1]


def test_its_checkpoints_have_their_steps_numbers_and_names_newest_first(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    found = list(client.fine_tuning.jobs.checkpoints.list(tuned.id))
    assert [one.step_number for one in found] == [8, 6, 3]
    name = tuned.fine_tuned_model
    names = [name, f"{name}:ckpt-step-6", f"{name}:ckpt-step-3"]
    assert [one.fine_tuned_model_checkpoint for one in found] == names
    events = list(client.fine_tuning.jobs.list_events(tuned.id, limit=100))
    for one in found:
        told = [event.data for event in events if event.data.get("step") == one.step_number]
        losses = {
            name: data[name] for data in told for name in ("loss", "eval_loss") if name in data
        }
        assert losses == {"loss": one.metrics.train_loss, "eval_loss": one.metrics.valid_loss}
    by_ones = client.fine_tuning.jobs.checkpoints.list(tuned.id, limit=1)
    assert [one.id for one in by_ones] == [one.id for one in found]


def test_its_events_are_read_page_by_page(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    by_fives = [event.id for event in client.fine_tuning.jobs.list_events(tuned.id, limit=5)]
    at_once = [event.id for event in client.fine_tuning.jobs.list_events(tuned.id, limit=100)]
    assert by_fives == at_once
    assert len(set(at_once)) == len(at_once) > 10
    assert at_once[-1] == "ftevent-1"


def test_jobs_are_found_by_their_metadata(client: openai.OpenAI, tuned: FineTuningJob) -> None:
    def ids(**query: Any) -> list[str]:
        return [job.id for job in client.fine_tuning.jobs.list(limit=1, **query)]

    assert tuned.id in ids()
    assert ids(metadata=METADATA) == ids(metadata={"team": "harbour"}) == [tuned.id]
    assert ids(metadata={"team": "other"}) == ids(metadata={"team": "harbour", "x": "y"}) == []
    assert tuned.id not in ids(extra_query={"metadata": "null"})


def test_files_are_listed_and_read_back(client: openai.OpenAI, files: tuple[str, str]) -> None:
    assert client.files.content(files[0]).read() == conversations(0, 16)
    listed = [file.id for file in client.files.list(purpose="fine-tune", limit=1)]
    assert {*files} <= set(listed)
    assert len(listed) == len(set(listed))
    assert [file.id for file in client.files.list(order="asc")] == listed_backwards(client)


def listed_backwards(client: openai.OpenAI) -> list[str]:
    return [file.id for file in client.files.list()][::-1]


def test_the_tuned_model_answers_can_be_trained_on_and_is_removed(
    client: openai.OpenAI, tuned: FineTuningJob, files: tuple[str, str], folders: dict[str, Path]
) -> None:
    name = str(tuned.fine_tuned_model)
    assert {MODEL, name} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(name).id == name
    chat = client.chat.completions.create(model=name, messages=QUESTION, max_tokens=8)
    assert chat.model == name
    assert chat.choices[0].message.content

    waiting = client.fine_tuning.jobs.create(
        model=name, training_file=files[0], hyperparameters={"n_epochs": 500, **QUICK}
    )
    with pytest.raises(openai.ConflictError, match=waiting.id):
        client.models.delete(name)
    with pytest.raises(openai.ConflictError, match=waiting.id):
        client.files.delete(files[0])
    client.fine_tuning.jobs.cancel(waiting.id)
    wait_for(client, waiting.id, "cancelled")

    deleted = client.models.delete(name)
    assert (deleted.id, deleted.deleted) == (name, True)
    assert name not in [model.id for model in client.models.list()]
    assert not list(folders["OUTPUT_PATH"].glob(f"*{name}*"))
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=name, messages=QUESTION)
    with pytest.raises(openai.NotFoundError):
        client.models.delete(name)
    with pytest.raises(openai.BadRequestError, match="base model"):
        client.models.delete(MODEL)


def test_a_job_pauses_and_goes_on_and_says_that_it_reads_no_body(
    client: openai.OpenAI, service: Server, files: tuple[str, str]
) -> None:
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=files[0], hyperparameters={"n_epochs": 500, **QUICK}
    )
    wait_for(client, job.id, "running")
    client.fine_tuning.jobs.pause(job.id)
    wait_for(client, job.id, "paused")
    for path in (f"/v1/fine_tuning/jobs/{job.id}/resume", f"/jobs/{job.id}/resume"):
        reply = httpx.post(service.url + path, json={"max_steps": 3}, timeout=30)
        assert reply.status_code == 400, reply.text
        assert "the body is not read here" in reply.text
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    client.fine_tuning.jobs.cancel(job.id)
    wait_for(client, job.id, "cancelled")


#: What is wrong with a request, the name that OpenAI has for it, and a word of the message.
FAULTS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"training_file": "file-none"}, "training_file", "'file-none'"),
    ({"training_file": "../etc"}, "training_file", "'..'"),
    ({"training_file": None}, "training_file", "string"),
    ({"validation_file": "file-none"}, "validation_file", "'file-none'"),
    ({"model": "../small"}, "model", "owner/model"),
    ({"suffix": "a/b"}, "suffix", "plain name"),
    ({"suffix": "x" * 65}, "suffix", "64"),
    ({"seed": -1}, "seed", "greater"),
    ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65, "64"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k", "512"),
    ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "16"),
    ({"metadata": {"k": 5}}, "metadata.k", "string"),
    ({"integrations": [{"type": "wandb"}]}, "integrations", "not supported"),
    ({"method": {"type": "dpo", "dpo": {}}}, "method", "'dpo'"),
    ({"method": {"type": "reinforcement"}}, "method", "supervised"),
    ({"method": {"type": "supervised", "dpo": {"hyperparameters": {}}}}, "method", "dpo"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than 0"),
    ({"hyperparameters": {"batch_size": 0}}, "hyperparameters.batch_size", "greater"),
    ({"hyperparameters": {"batch_size": "big"}}, "hyperparameters.batch_size", "integer"),
    (
        {"hyperparameters": {"learning_rate_multiplier": "fast"}},
        "hyperparameters.learning_rate_multiplier",
        "number",
    ),
    (
        {"hyperparameters": {"learning_rate_multiplier": True}},
        "hyperparameters.learning_rate_multiplier",
        "number",
    ),
    ({"hyperparameters": {"n_epoch": 1}}, "hyperparameters", "did you mean 'n_epochs'"),
    ({"hyperparameters": {"lora_r": 0}}, "hyperparameters.lora_r", "greater"),
    ({"trainig_file": "x"}, None, "did you mean 'training_file'"),
]


def test_what_is_wrong_has_openais_name(
    client: openai.OpenAI, service: Server, files: tuple[str, str]
) -> None:
    before = [job.id for job in client.fine_tuning.jobs.list()]
    for fields, param, word in FAULTS:
        body = {"model": MODEL, "training_file": files[0], **fields}
        reply = httpx.post(f"{service.url}/v1/fine_tuning/jobs", json=body, timeout=60)
        assert reply.status_code in (400, 404), (fields, reply.text)
        error = reply.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param), (fields, error)
        assert word in error["message"], (fields, error)
        assert "dataset_name" not in error["message"]
    assert [job.id for job in client.fine_tuning.jobs.list()] == before


def test_rows_that_cannot_be_trained_on_are_the_training_files_fault(
    client: openai.OpenAI, files: tuple[str, str]
) -> None:
    bad = client.files.create(file=("bad.jsonl", b'{"messages": []}\n'), purpose="fine-tune")
    for names in (("training_file",), ("training_file", "validation_file")):
        wished: dict[str, Any] = {"training_file": files[0], names[-1]: bad.id}
        with pytest.raises(openai.BadRequestError, match="line 1") as raised:
            client.fine_tuning.jobs.create(model=MODEL, **wished)
        assert raised.value.param == names[-1]


# --- uploads --------------------------------------------------------------------------------


def lying(folders: dict[str, Path]) -> set[str]:
    return {path.name for path in (folders["WORKING_PATH"] / "files").iterdir()}


def test_an_upload_beyond_other_bodies_limit_is_kept(
    client: openai.OpenAI, folders: dict[str, Path]
) -> None:
    rows = conversations(0, 16) + b"\n"
    content = rows * (20_000_000 // len(rows))
    file = client.files.create(file=("large.jsonl", content), purpose="fine-tune")
    assert file.bytes == len(content)
    assert (folders["WORKING_PATH"] / "files" / f"{file.id}.jsonl").read_bytes() == content
    assert client.files.delete(file.id).deleted
    assert not [name for name in lying(folders) if file.id in name]


def test_what_is_refused_leaves_nothing_and_says_what_to_change(
    client: openai.OpenAI, folders: dict[str, Path]
) -> None:
    before = lying(folders)
    with pytest.raises(openai.APIStatusError, match="TRAINER_MAX_UPLOAD_BYTES") as raised:
        client.files.create(file=("huge.jsonl", b"x" * (MOST_BYTES + 1)), purpose="fine-tune")
    assert (raised.value.status_code, raised.value.param) == (413, "file")
    with pytest.raises(openai.BadRequestError, match="jsonl") as raised:
        client.files.create(file=("photo.png", b"x" * 1_000_000), purpose="fine-tune")
    assert raised.value.param == "file"
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(file=("rows.jsonl", b"{}"), purpose="assistants")
    assert raised.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(
            file=("rows.jsonl", b"{}"),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    assert raised.value.param == "expires_after"
    assert lying(folders) == before


@pytest.mark.parametrize(
    "form",
    [
        {"json": {"purpose": "fine-tune"}},
        {"data": {"purpose": "fine-tune"}},
        {"files": {"other": ("a.jsonl", b"{}")}},
        {"files": [("file", ("a.jsonl", b"{}")), ("file", ("b.jsonl", b"{}"))]},
        {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"y" * 99_999, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"{}", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_a_form_that_is_none_is_refused(
    service: Server, folders: dict[str, Path], form: dict[str, Any]
) -> None:
    before = lying(folders)
    reply = httpx.post(f"{service.url}/v1/files", timeout=30, **form)
    assert reply.status_code in (400, 415), reply.text
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert lying(folders) == before


def test_an_upload_that_is_broken_off_leaves_nothing(
    service: Server, folders: dict[str, Path]
) -> None:
    before = lying(folders)
    head = (
        b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head + b"x" * 3_000_000)
        until(lambda: lying(folders) != before, "the upload has begun")
        time.sleep(0.1)
    until(lambda: lying(folders) == before, "nothing is left")
