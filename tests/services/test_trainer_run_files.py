"""A run's files over HTTP: those it has, whole or in part, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.left_run import WEIGHTS, get, leave_run, listed
from tests.services.trainer import Trainer, trainer


@pytest.fixture
async def service(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    async with trainer(tmp_path, models, monkeypatch) as running:
        await leave_run(running, "ft-1", "houses")
        yield running


async def test_all_of_a_run_is_listed_and_comes_with_the_hash_that_is_told(
    service: Trainer,
) -> None:
    files = await listed(service)
    assert {name: file["kind"] for name, file in files.items()} == {
        "adapter_config.json": "adapter",
        "adapter_model.safetensors": "adapter",
        "houses.zip": "archive",
        "houses-gguf/houses.bf16.gguf": "gguf",
        "manifest.json": "manifest",
        "metrics.csv": "metrics",
        "log.txt": "log",
    }
    for file in files.values():
        reply = await get(service, file["url"])
        content = await reply.get_data()
        assert len(content) == file["bytes"] == int(reply.headers["Content-Length"])
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert reply.headers["ETag"] == f'"{file["sha256"]}"'
        name = file["name"].rpartition("/")[2]
        assert reply.headers["Content-Disposition"] == f"attachment; filename={name}"


@pytest.mark.parametrize(
    ("wished", "begin", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=1048570-", 1048570, len(WEIGHTS)),
        ("bytes=-7", len(WEIGHTS) - 7, len(WEIGHTS)),
        ("bytes=5-99999999", 5, len(WEIGHTS)),
    ],
)
async def test_a_range_is_sent_alone(service: Trainer, wished: str, begin: int, end: int) -> None:
    reply = await get(service, "/jobs/ft-1/files/adapter_model.safetensors", Range=wished)
    assert reply.status_code == 206
    assert await reply.get_data() == WEIGHTS[begin:end]
    assert reply.headers["Content-Length"] == str(end - begin)
    assert reply.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(WEIGHTS)}"


@pytest.mark.parametrize("wished", ["lines=1-2", "bytes=a-b", "bytes=0-1,5-6", "nonsense"])
async def test_a_range_that_cannot_be_read_is_answered_by_the_whole(
    service: Trainer, wished: str
) -> None:
    reply = await get(service, "/jobs/ft-1/files/houses.zip", Range=wished)
    assert reply.status_code == 200
    assert int(reply.headers["Content-Length"]) > len(WEIGHTS)


async def test_a_range_behind_the_end_is_a_416_that_tells_the_size(service: Trainer) -> None:
    reply = await get(service, "/jobs/ft-1/files/log.txt", Range="bytes=7-")
    assert reply.status_code == 416
    assert reply.headers["Content-Range"] == "bytes */7"
    assert "7 bytes" in (await reply.get_json())["description"]


async def test_a_download_goes_on_only_if_the_file_is_the_same(service: Trainer) -> None:
    path = "/jobs/ft-1/files/log.txt"
    tag = (await get(service, path)).headers["ETag"]
    assert (await get(service, path, **{"If-None-Match": tag})).status_code == 304
    going_on = {"Range": "bytes=3-", "If-Range": tag}
    assert await (await get(service, path, **going_on)).get_data() == b"ran\n"
    (service.root / "working/jobs/ft-1/log.txt").write_text("it ran, and ran\n")
    reply = await get(service, path, **going_on)
    assert reply.status_code == 200
    assert await reply.get_data() == b"it ran, and ran\n"
    assert (await get(service, path, **{"If-None-Match": tag})).status_code == 200


async def test_a_head_opens_no_file_and_tells_the_hash(service: Trainer) -> None:
    files = await listed(service)
    reply = await service.app.test_client().head(files["houses.zip"]["url"])
    assert reply.headers["ETag"] == f'"{files["houses.zip"]["sha256"]}"'
    assert await reply.get_data() == b""


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "../../output/houses.zip",
        "%2e%2e/%2e%2e/input/rows.jsonl",
        "..%2f..%2finput%2frows.jsonl",
        "/etc/passwd",
        ".job",
        "houses-gguf",
        "houses-gguf/.job",
        "link.txt",
        "linked/secret.txt",
        "houses/adapter_config.json",
    ],
)
async def test_nothing_else_can_be_had(service: Trainer, name: str) -> None:
    folder = service.root / "output" / "houses"
    (service.root / "secret.txt").write_text("classified")
    (folder / "link.txt").symlink_to(service.root / "secret.txt")
    (folder / "linked").symlink_to(service.root)
    reply = await get(service, f"/jobs/ft-1/files/{name}")
    assert reply.status_code in (404, 308)
    assert b"classified" not in await reply.get_data()


async def test_another_jobs_model_of_the_same_name_is_not_this_ones(service: Trainer) -> None:
    await service.jobs.create("ml.finetuning.job", {"output_dir": "houses"}, "ft-2")
    assert await listed(service, "ft-2") == {}
    assert (await get(service, "/jobs/ft-2/files/houses.zip")).status_code == 404
    assert (await get(service, "/jobs/nobody/files")).status_code == 404
    assert (await get(service, "/jobs/nobody/files/houses.zip")).status_code == 404


async def test_of_a_running_job_its_numbers_come_as_they_are_now(service: Trainer) -> None:
    await service.jobs.create("ml.finetuning.job", {"output_dir": "second"}, "ft-3")
    folder = service.root / "working" / "jobs" / "ft-3"
    folder.mkdir()
    text = "step,loss\n"
    for step in range(3):
        text += f"{step},1.0\n"
        (folder / "metrics.csv").write_text(text)
        (file,) = (await listed(service, "ft-3")).values()
        assert file["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert await (await get(service, file["url"])).get_data() == text.encode()


async def test_a_file_that_was_changed_is_not_told_by_the_manifests_hash(service: Trainer) -> None:
    folder = service.root / "output" / "houses"
    (folder / "adapter_config.json").write_text("[]")
    told = json.loads((folder / "manifest.json").read_text())["files"]["adapter_config.json"]
    file = (await listed(service))["adapter_config.json"]
    assert file["bytes"] == told["bytes"]
    assert file["sha256"] == hashlib.sha256(b"[]").hexdigest()


async def test_files_need_the_key(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with trainer(tmp_path, models, monkeypatch, TRAINER_API_KEYS="sesame") as service:
        await leave_run(service, "ft-1", "houses")
        for path in ("/jobs/ft-1/files", "/jobs/ft-1/files/houses.zip"):
            assert (await get(service, path)).status_code == 401
            assert (await get(service, path, Authorization="Bearer sesame")).status_code == 200


async def test_a_file_whose_name_no_address_has_is_none(service: Trainer) -> None:
    folder = service.root / "output" / "houses"
    before = await listed(service)
    (folder / "dir\n").mkdir()
    for name in (b"bad\xff\xfe.bin", b"new\nline.txt", "rtl\u202etxt.exe".encode(), b"dir\n/file"):
        (folder / os.fsdecode(name)).write_text("x")
    assert await listed(service) == before


async def test_a_download_keeps_a_name_of_any_script(service: Trainer) -> None:
    name = "Über ☃ 'a' 100%.txt"
    (service.root / "output" / "houses" / name).write_text("x")
    reply = await get(service, (await listed(service))[name]["url"])
    assert reply.status_code == 200
    due = "filename*=UTF-8''%C3%9Cber%20%E2%98%83%20%27a%27%20100%25.txt"
    assert reply.headers["Content-Disposition"].endswith(due)
    assert reply.headers["Content-Disposition"].isascii()


async def test_the_last_bytes_of_a_shorter_file_are_all_of_it(service: Trainer) -> None:
    address = "/jobs/ft-1/files/adapter_model.safetensors"
    reply = await get(service, address, Range="bytes=-999999999")
    assert (reply.status_code, await reply.get_data()) == (206, WEIGHTS)
