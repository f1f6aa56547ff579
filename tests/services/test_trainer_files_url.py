"""The trainer with `TRAINER_FILES_URL`: bad addresses end the start, and all is found there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.trainer import Trainer, trainer, upload

BASE = '["small"]'


@pytest.fixture
async def service(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "input").symlink_to(there / "input")
    (there / "input").mkdir()
    url = f"file://{there}"
    async with trainer(tmp_path, models, monkeypatch, TRAINER_FILES_URL=url) as running:
        yield running


async def test_data_and_uploads_of_the_address_are_trained_on(service: Trainer) -> None:
    there = service.root / "there"
    reply = await service.finetune(dataset_name="rows")
    assert reply.status_code == 200, await reply.get_data()
    assert (await reply.get_json())["data"]["usable"] == 16
    file_id = await upload(service, (there / "input" / "rows.jsonl").read_bytes())
    assert sorted(path.suffix for path in (there / "files").iterdir()) == [".entry", ".jsonl"]
    reply = await service.finetune(dataset_name=file_id, output_dir="other")
    assert reply.status_code == 200, await reply.get_data()
    client = service.app.test_client()
    content = await client.get(f"/v1/files/{file_id}/content")
    assert await content.get_data() == (there / "input" / "rows.jsonl").read_bytes()
    listed = (await (await client.get("/v1/files")).get_json())["data"]
    assert [entry["id"] for entry in listed] == [file_id]


@pytest.mark.parametrize("name", ["s3://other/rows.jsonl", "../output/x.jsonl", "/etc/passwd"])
async def test_no_data_set_is_read_from_elsewhere(service: Trainer, name: str) -> None:
    reply = await service.finetune(dataset_name=name)
    assert reply.status_code in (400, 404), await reply.get_data()


async def test_a_name_that_a_job_of_another_host_claimed_is_refused(service: Trainer) -> None:
    claims = service.root / "there" / "claims"
    claims.mkdir()
    (claims / "new").write_text("train_of_another")
    assert "there is a model 'new' already" in await service.refusal()


async def test_files_that_are_away_are_a_503_that_says_when_to_come_again(
    service: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (service.root / "there" / "files").write_text("in the way of a folder")
    monkeypatch.setattr("ml.jobs.remote_files._PAUSE_SECONDS", 0.01)
    reply = await upload(service, b'{"text": "a"}\n', status=503)
    assert "files that jobs share cannot be reached" in reply


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("bucket/folder", "give an address such as s3://bucket/folder"),
        ("s3://key:secret@bucket/folder", "credentials come from the environment"),
        ("s3://bucket/../other", "may not hold '..'"),
        ("memory://folder", "memory:// is of one process alone"),
        ("simplecache::s3://bucket", "give an address such as s3://bucket/folder"),
        ("https://host/folder?signature=secret", "give an address such as s3://bucket/folder"),
        ("nothing://bucket", "there is no file system nothing://"),
        ("http://host/folder", "nothing can be written to http://"),
        ("file://mnt/shared", "file:// needs a folder's whole path"),
        ("file://localhost/mnt/shared", "file:// needs a folder's whole path"),
        ("file:///", "file:// needs a folder's whole path"),
        ("gs://bucket", "gs:// needs a package: Please install gcsfs"),
    ],
)
def test_an_address_that_cannot_be_one_is_told_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, told: str
) -> None:
    from unsloth_trainer_service import create_app

    monkeypatch.setenv("TRAINER_FILES_URL", url)
    with pytest.raises(SystemExit):
        create_app()
    [line] = [line for line in capsys.readouterr().err.splitlines() if "FILES_URL" in line]
    assert told in line
    assert "secret" not in line
