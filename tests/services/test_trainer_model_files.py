"""The files of a tuned model by its name, those that hosts share, and uploaded ones: one way."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml.finetuning.run_log import LOG_FILE
from ml.finetuning.shared_models import SharedOutput
from ml.jobs.job import JobState
from ml.jobs.remote_files import RemoteFiles
from tests.services.left_run import WEIGHTS, get, leave_run, listed
from tests.services.trainer import Trainer, trainer, upload


@pytest.fixture
async def service(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    async with trainer(tmp_path, models, monkeypatch) as running:
        await leave_run(running, "ft-1", "houses")
        yield running


@pytest.fixture
async def sharing(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    """A service whose files are at an address, with a run of another host there."""
    (tmp_path / "there").mkdir()
    url = f"file://{tmp_path / 'there'}"
    async with trainer(tmp_path, models, monkeypatch, TRAINER_FILES_URL=url) as running:
        await leave_run(running, "ft-1", "houses")
        _share(running, url)
        yield running


def _share(service: Trainer, url: str) -> None:
    """Move what the run has left to where hosts share their files, as a job there copies it."""
    files, output = RemoteFiles(url), service.root / "output"
    SharedOutput(files, service.root / "elsewhere", "houses", "ft-1").claim(["gguf"])
    for path in sorted(output.rglob("*")):
        if path.is_file():
            files.upload(path, f"output/{path.relative_to(output).as_posix()}")
    job = service.root / "working" / "jobs" / "ft-1"
    (job / LOG_FILE).write_text('{"step": 1}\n')
    for name in ("metrics.csv", LOG_FILE):
        files.upload(job / name, f"jobs/ft-1/{name}")
    shutil.rmtree(output)
    shutil.rmtree(job)


async def files_of(service: Trainer, model: str) -> dict[str, dict[str, Any]]:
    reply = await get(service, f"/v1/models/{model}/files")
    assert reply.status_code == 200, await reply.get_data()
    return {file["name"]: file for file in (await reply.get_json())["files"]}


async def require_whole(service: Trainer, files: dict[str, dict[str, Any]]) -> None:
    for file in files.values():
        reply = await get(service, file["url"])
        content = await reply.get_data()
        assert len(content) == file["bytes"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert reply.headers["ETag"] == f'"{file["sha256"]}"'


async def test_the_name_gives_the_files_that_the_run_gives(service: Trainer) -> None:
    by_name, by_job = await files_of(service, "houses"), await listed(service)
    without = [
        {name: {**file, "url": ""} for name, file in files.items()} for files in (by_name, by_job)
    ]
    assert without[0] == without[1]
    await require_whole(service, by_name)


async def test_an_adapter_that_no_job_made_has_its_files_and_no_others(service: Trainer) -> None:
    output = service.root / "output"
    (output / "mine").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(output / "houses" / name, output / "mine")
    (output / "mine-gguf").mkdir()
    (output / "mine-gguf" / "mine.gguf").write_bytes(b"whose?")
    files = await files_of(service, "mine")
    assert {name: file["kind"] for name, file in files.items()} == {
        "adapter_config.json": "adapter",
        "adapter_model.safetensors": "adapter",
    }
    await require_whole(service, files)


async def test_a_model_whose_run_has_no_record_any_more_keeps_its_files(service: Trainer) -> None:
    (service.root / "output" / "houses" / ".job").write_text("ft-of-another-time")
    files = await files_of(service, "houses")
    assert {"adapter_config.json", "adapter_model.safetensors", "houses.zip"} <= files.keys()
    assert "houses-gguf/houses.bf16.gguf" not in files
    await require_whole(service, files)


NOWHERE = (
    "nobody/files",
    "nobody/files/houses.zip",
    "small/files",
    "houses-gguf/files",
    "houses.zip/files",
    "%2e%2e/files",
    "..%2finput/files",
    "./houses/files",
    ".hidden/files",
    "linked/files",
    "linked/files/adapter_config.json",
    "houses/files/nothing",
    "houses/files/.job",
    "houses/files/link.txt",
    "houses/files/../../../secret.txt",
    "houses/files/%2e%2e/%2e%2e/secret.txt",
    "houses/files//etc/passwd",
)


async def test_nothing_else_can_be_had_by_a_models_name(service: Trainer) -> None:
    output = service.root / "output"
    (service.root / "secret.txt").write_text("classified")
    (output / "houses" / "link.txt").symlink_to(service.root / "secret.txt")
    shutil.copytree(output / "houses", service.root / "elsewhere", symlinks=True)
    (output / "linked").symlink_to(service.root / "elsewhere")
    for path in NOWHERE:
        reply = await get(service, f"/v1/models/{path}")
        assert reply.status_code in (404, 405, 308), (path, await reply.get_data())
        assert b"classified" not in await reply.get_data()


async def test_files_of_another_host_are_listed_and_come_whole(sharing: Trainer) -> None:
    by_name = await files_of(sharing, "houses")
    assert {name: file["kind"] for name, file in by_name.items()} == {
        "adapter_config.json": "adapter",
        "adapter_model.safetensors": "adapter",
        "houses.zip": "archive",
        "houses-gguf/houses.bf16.gguf": "gguf",
        "manifest.json": "manifest",
        "metrics.csv": "metrics",
        LOG_FILE: "log",
    }
    await require_whole(sharing, by_name)
    by_job = await listed(sharing)
    assert by_job.keys() == by_name.keys()
    await require_whole(sharing, by_job)
    assert not any((sharing.root / "working" / "copies" / "output").iterdir())


async def test_a_range_of_another_hosts_file_is_sent_alone(sharing: Trainer) -> None:
    path, size = "/v1/models/houses/files/adapter_model.safetensors", len(WEIGHTS)
    for wished, begin, end in (
        ("bytes=0-9", 0, 10),
        ("bytes=1048570-", 1048570, size),
        ("bytes=-7", size - 7, size),
    ):
        reply = await get(sharing, path, Range=wished)
        assert reply.status_code == 206
        assert await reply.get_data() == WEIGHTS[begin:end]
        assert reply.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{size}"


async def test_of_a_job_that_runs_here_its_numbers_are_newer_than_what_is_shared(
    sharing: Trainer,
) -> None:
    await sharing.jobs.create("ml.finetuning.job", {"output_dir": "second"}, "ft-2")
    (sharing.root / "there" / "jobs" / "ft-2").mkdir()
    (sharing.root / "there" / "jobs" / "ft-2" / "metrics.csv").write_text("step\n1\n")
    assert await (await get(sharing, "/jobs/ft-2/files/metrics.csv")).get_data() == b"step\n1\n"
    (sharing.root / "working" / "jobs" / "ft-2").mkdir()
    (sharing.root / "working" / "jobs" / "ft-2" / "metrics.csv").write_text("step\n1\n2\n")
    reply = await get(sharing, "/jobs/ft-2/files/metrics.csv")
    assert await reply.get_data() == b"step\n1\n2\n"


async def test_a_name_that_another_job_claimed_is_not_this_jobs(sharing: Trainer) -> None:
    await sharing.jobs.create("ml.finetuning.job", {"output_dir": "houses"}, "ft-2")
    assert await listed(sharing, "ft-2") == {}


async def test_files_that_are_away_are_a_503(
    sharing: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = sharing.root / "there" / "claims" / "houses"
    claim.unlink()
    claim.mkdir()
    monkeypatch.setattr("ml.jobs.remote_files._PAUSE_SECONDS", 0.01)
    for path in ("/v1/models/houses/files", "/jobs/ft-1/files"):
        assert (await get(sharing, path)).status_code == 503


async def test_an_uploaded_file_goes_on_where_it_broke_off(service: Trainer) -> None:
    await _require_parts_of_an_upload(service)


async def test_an_uploaded_file_that_hosts_share_does_so_too(sharing: Trainer) -> None:
    await _require_parts_of_an_upload(sharing)


async def _require_parts_of_an_upload(service: Trainer) -> None:
    content = b"".join(b'{"text": "%d"}\n' % n for n in range(100_000))
    file_id = await upload(service, content)
    path = f"/v1/files/{file_id}/content"
    whole = await get(service, path)
    assert await whole.get_data() == content
    tag = f'"{hashlib.sha256(content).hexdigest()}"'
    assert whole.headers["ETag"] == tag
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    rest = await get(service, path, **{"Range": "bytes=1048500-", "If-Range": tag})
    assert rest.status_code == 206
    assert await rest.get_data() == content[1048500:]
    assert (await get(service, path, **{"If-None-Match": tag})).status_code == 304
    behind = await get(service, path, Range=f"bytes={len(content)}-")
    assert behind.status_code == 416
    assert behind.headers["Content-Range"] == f"bytes */{len(content)}"
    assert f"{len(content)} bytes" in (await behind.get_json())["error"]["message"]


async def test_a_file_that_is_gone_between_the_look_and_the_download_is_a_404(
    service: Trainer,
) -> None:
    file_id = await upload(service, b'{"text": "a"}\n')
    (path,) = (service.root / "working" / "files").glob(f"{file_id}.jsonl")
    os.unlink(path)  # noqa: PTH108
    assert (await get(service, f"/v1/files/{file_id}/content")).status_code == 404


async def test_a_successful_state_is_needed_for_nothing(service: Trainer) -> None:
    """A run that failed behind its training has left its adapter, which can be had."""
    await service.jobs.create("ml.finetuning.job", {"output_dir": "late"}, "ft-9")
    assert (await service.jobs.claim_next("test")).id == "ft-9"
    folder = service.root / "output" / "late"
    shutil.copytree(service.root / "output" / "houses", folder)
    (folder / ".job").write_text("ft-9")
    await service.jobs.transition("ft-9", JobState.FAILED, reason="the export failed")
    assert (await files_of(service, "late")).keys() == (await listed(service, "ft-9")).keys()
