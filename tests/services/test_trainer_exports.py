"""`POST /v1/models/NAME/export`: a job as all others, or a refusal before one waits."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml.finetuning.output import Output
from ml.jobs.job import JobState
from tests.services.trainer import Trainer, trainer
from tests.support.finetuning import save_small_llm
from tests.support.processes import ROOT

MERGED = {"exports": ["merged_16bit"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_small_llm(root / "small")
    shutil.copytree(root / "small", root / "large")
    header = b'{"w": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 0]}}'
    content = len(header).to_bytes(8, "little") + header
    (root / "large" / "model.safetensors").write_bytes(content)
    return root


@pytest.fixture
async def service(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Trainer]:
    async with trainer(tmp_path, models, monkeypatch) as running:
        await make(running, "ft-1", "houses")
        yield running


async def make(
    service: Trainer, job_id: str, name: str, *, base: str = "small", ends: bool = True
) -> None:
    """Leave a tuned model of a run, without training."""
    output = await service.begin(job_id, name, model_name=base, max_seq_length=64)
    output.claim([])
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (output.folder / "adapter_config.json").write_text(json.dumps(config))
    (output.folder / "adapter_model.safetensors").write_bytes(b"weights")
    if ends:
        await service.jobs.transition(job_id, JobState.SUCCEEDED, result={"model": name})


async def export(service: Trainer, name: str = "houses", body: Any = MERGED) -> Any:
    return await service.post(f"/v1/models/{name}/export", body)


async def refusal(reply: Any, status: int) -> str:
    assert reply.status_code == status, await reply.get_data()
    return str((await reply.get_json())["error"]["message"])


async def test_it_is_a_job_of_the_same_queue(service: Trainer) -> None:
    reply = await export(service)
    assert reply.status_code == 202, await reply.get_data()
    told = await reply.get_json()
    assert told["status"] == "queued"
    assert told["files_url"] == "/jobs/ft-1/files"
    client = service.app.test_client()
    job = await (await client.get(f"/jobs/{told['job_id']}")).get_json()
    assert job["position"] == 1
    assert job["request"] == {
        "exports": ["merged_16bit"],
        "resources": None,
        "model_name": "houses",
        "run_id": "ft-1",
        "backend": "auto",
        "load_in_4bit": None,
        "max_seq_length": 64,
    }
    listed = (await (await client.get("/jobs")).get_json())["jobs"]
    assert told["job_id"] in [one["job_id"] for one in listed]
    tunings = (await (await client.get("/v1/fine_tuning/jobs")).get_json())["data"]
    assert [one["id"] for one in tunings] == ["ft-1"]
    cancelled = await (await client.delete(f"/jobs/{told['job_id']}")).get_json()
    assert cancelled["status"] == "cancelled"


@pytest.mark.parametrize(
    ("name", "body", "status", "sentence"),
    [
        ("nothing", MERGED, 404, "There is no tuned model 'nothing' here."),
        ("small", MERGED, 404, "There is no tuned model 'small' here."),
        ("owner/houses", MERGED, 404, "There is no tuned model 'owner/houses' here."),
        ("..%2foutput%2fhouses", MERGED, 404, "There is no tuned model"),
        ("houses", {}, 422, "exports: "),
        ("houses", {"exports": []}, 422, "exports: "),
        ("houses", {"exports": ["onnx"]}, 422, "exports.0: "),
        ("houses", {"export": ["gguf"]}, 422, "no such field: 'export'; did you mean 'exports'?"),
        ("houses", [], 422, "give a JSON object"),
        ("houses", {"exports": ["gguf"]}, 422, "exports: gguf cannot be made here: convert_hf_to_"),
        ("houses", {**MERGED, "resources": {"gpus": 1}}, 422, "resources: the jobs of this servi"),
    ],
)
async def test_what_cannot_be_is_refused(
    service: Trainer, name: str, body: Any, status: int, sentence: str
) -> None:
    assert sentence in await refusal(await export(service, name, body), status)
    assert len(await service.jobs.list()) == 2


async def test_a_base_that_is_nowhere_is_told(service: Trainer) -> None:
    await make(service, "ft-2", "lost", base="owner/nothing")
    said = await refusal(await export(service, "lost"), 422)
    assert "'owner/nothing' (the base of 'lost') cannot be loaded" in said


async def test_a_disk_without_room_is_told_before_anything_waits(
    service: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PATH", str(ROOT / "tests" / "support" / "llama_cpp"))
    await make(service, "ft-2", "huge", base="large")
    said = await refusal(await export(service, "huge"), 507)
    assert said.startswith("exports: they take 2000.0 GB while they are made, and the disk has")
    both = {"exports": ["merged_16bit", "gguf"]}
    assert "they take 6000.0 GB" in await refusal(await export(service, "huge", both), 507)


async def test_the_same_export_is_made_once(service: Trainer) -> None:
    job_id = (await (await export(service)).get_json())["job_id"]
    said = await refusal(await export(service), 409)
    assert said == f"exports: job {job_id}, which is queued, makes 'houses-merged' already"
    await service.app.test_client().delete(f"/jobs/{job_id}")
    output = Output(service.root / "output", "houses", "ft-1")
    output.publish_export("merged_16bit", output.begin_export("merged_16bit"))
    said = await refusal(await export(service), 409)
    assert said == "exports: 'houses-merged' is there already, among the files of job ft-1"


async def test_of_two_that_ask_at_once_one_is_refused(service: Trainer) -> None:
    replies = await asyncio.gather(export(service), export(service))
    assert sorted(reply.status_code for reply in replies) == [202, 409]


async def test_a_model_is_exported_once_its_run_has_ended(service: Trainer) -> None:
    await make(service, "ft-2", "new", ends=False)
    assert "job ft-2, which is running, makes 'new'" in await refusal(
        await export(service, "new"), 409
    )


async def test_a_model_that_no_run_has_made_is_not_exported(service: Trainer) -> None:
    folder = service.root / "output" / "houses"
    shutil.copytree(folder, service.root / "output" / "mine")
    (service.root / "output" / "mine" / ".job").unlink()
    said = await refusal(await export(service, "mine"), 422)
    assert said.startswith("'mine' was made by no run of this service")


async def test_what_an_export_needs_and_makes_stays_its_own(service: Trainer) -> None:
    job_id = (await (await export(service)).get_json())["job_id"]
    reply = await service.app.test_client().delete("/v1/models/houses")
    assert f"job {job_id}, which is queued, needs 'houses'" in await refusal(reply, 409)
    assert f"job {job_id} makes 'houses-merged'" in await service.refusal(
        output_dir="houses-merged"
    )
