"""A disk without room and a locked store are told, and leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.trainer import Trainer, trainer, upload
from tests.support.disks import fill, locked, small_disk


@pytest.fixture
async def service(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    """A trainer on a disk of its own."""
    with small_disk(tmp_path / "disk", 4) as disk:
        async with trainer(disk, models, monkeypatch) as running:
            yield running


async def test_on_a_full_disk_nothing_is_queued_and_nothing_kept(service: Trainer) -> None:
    working = service.root / "working"
    with fill(service.root):
        reply = await service.finetune()
        assert reply.status_code == 507, await reply.get_data()
        assert "full" in (await reply.get_json())["description"]
        assert [job.id for job in await service.jobs.list()] == ["counting"]
    before = sorted((working / "files").iterdir())
    with fill(service.root, leaving=20_000):
        reply = await upload(service, b'{"text": "a"}\n' * 20_000, status=507)
        assert "full" in reply
        assert sorted((working / "files").iterdir()) == before
    assert (await service.finetune()).status_code == 200


async def test_a_locked_store_is_a_503_that_says_when_to_come_again(service: Trainer) -> None:
    async with locked(service.root / "working" / "jobs.sqlite"):
        reply = await service.finetune()
        assert reply.status_code == 503, await reply.get_data()
        assert reply.headers["Retry-After"] == "1"
        assert "locked by another process" in (await reply.get_json())["description"]
        cancel = await service.app.test_client().delete("/jobs/counting")
        assert cancel.status_code == 503
    assert (await service.finetune()).status_code == 200
