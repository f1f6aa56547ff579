"""A real training whose checkpoint finds no room says so on its page, and goes on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.axe import serious_faults
from tests.browser.conftest import OpenDashboard, StartService, Trainer
from tests.support.disks import fill, small_disk
from tests.support.finetuning import REQUEST, save_small_llm, write_rows

#: A checkpoint of this adapter takes 1.6 MB.
RUN = {
    **REQUEST,
    "output_dir": "houses",
    "lora_r": 64,
    "max_steps": 12,
    "save_steps": 2,
    "save_total_limit": 10,
}
ROOM = 5 << 20
TRAINS_MS = 180_000


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    """A service on a disk of its own, with a small model elsewhere."""
    save_small_llm(tmp_path / "models" / "small")
    with small_disk(tmp_path / "disk", 48) as disk:
        trainer = Trainer(
            disk / "service",
            MODELS_PATH=str(tmp_path / "models"),
            TRAINER_DTYPE="float32",
            HF_HUB_OFFLINE="1",
        )
        write_rows(trainer.input / "rows.jsonl", [(f"Which is {n}?", f"{n}.") for n in range(16)])
        yield trainer


async def test_the_page_says_so_and_the_run_is_resumed_once_there_is_room(
    open_dashboard: OpenDashboard, trainer: Trainer, start_service: StartService
) -> None:
    await asyncio.to_thread(start_service)
    page = await open_dashboard()
    async with httpx.AsyncClient(base_url=trainer.url, timeout=60) as client:
        with fill(trainer.working, leaving=ROOM):
            reply = await client.post("/finetune", json=RUN)
            assert reply.status_code == 200, reply.text
            job = f"/jobs/{reply.json()['job_id']}"
            await expect(page.find("#status")).to_contain_text("failed", timeout=TRAINS_MS)
            await expect(page.find("#reason")).to_contain_text("is full")
            await expect(page.find("#reason")).to_contain_text("save_total_limit")
            await expect(page.find("#resume")).to_be_visible()
            assert await serious_faults(page.page) == []
            reached = (await client.get(job)).json()["progress"]["step"]
            assert 2 <= reached < RUN["max_steps"]
        await page.find("#resume").click()
        await expect(page.find("#status")).to_contain_text("succeeded", timeout=TRAINS_MS)
        await expect(page.find("#reason")).to_be_hidden()
        record = (await client.get(job)).json()
        assert record["progress"]["step"] == RUN["max_steps"]
        history = (await client.get(f"{job}/events/history")).json()["events"]
        steps = [one["data"]["step"] for one in history if one["type"] == "progress"]
        assert steps.count(2) == 1  # it went on from a checkpoint, not from the beginning
        assert max(steps) == RUN["max_steps"]
