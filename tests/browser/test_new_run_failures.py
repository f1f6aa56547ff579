"""What the page on which a run is started says when the service or the way to it fails."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Dialog, expect

from tests.browser.conftest import OpenDashboard, StartService, Trainer
from tests.browser.dashboard import Dashboard
from tests.support.disks import fill, small_disk
from tests.support.finetuning import save_small_llm, write_rows
from tests.support.processes import Server

MODEL = "small"


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    """A service on a disk of its own."""
    save_small_llm(tmp_path / "models" / MODEL)
    with small_disk(tmp_path / "disk", 16) as disk:
        trainer = Trainer(
            disk / "service",
            MODELS_PATH=str(tmp_path / "models"),
            TRAINER_API_KEYS="first-key",
            TRAINER_DASHBOARD_PORT="0",
        )
        write_rows(trainer.input / "rows.jsonl", [(f"Is {n} even?", "Yes.") for n in range(9)])
        yield trainer


async def open_page(open_dashboard: OpenDashboard) -> Dashboard:
    known = {"username": "anybody", "password": "first-key"}
    page = await open_dashboard(path="/new", http_credentials=known)
    await expect(page.find("#model_here")).to_have_value(MODEL)
    await page.find("#dataset_file").select_option("rows.jsonl")
    await page.find("#output_dir").fill("even")
    await page.shows("#verdict", "9 of 9 rows")
    return page


async def upload(page: Dashboard, size: int) -> None:
    row = b'{"text": "It is even."}\n'
    content = row * (size // len(row))
    file: Any = {"name": "big.jsonl", "mimeType": "application/octet-stream", "buffer": content}
    await page.find("#upload").set_input_files(file)


@pytest.mark.usefixtures("service")
async def test_a_connection_that_is_lost_in_an_upload_is_said_and_the_file_can_be_sent_anew(
    open_dashboard: OpenDashboard,
) -> None:
    page = await open_page(open_dashboard)
    await page.page.route("**/v1/files", lambda route: route.abort("connectionreset"))
    await upload(page, 100_000)
    await page.shows("#fault-upload", "The connection broke off before the whole file was there.")
    await expect(page.find("#uploading")).to_be_hidden()
    await page.page.unroute("**/v1/files")
    await upload(page, 100_000)
    await page.shows("#uploaded", "big.jsonl is uploaded and chosen.")
    await expect(page.find("#fault-upload")).to_be_hidden()
    page.excuse("net::ERR_")


@pytest.mark.usefixtures("service")
async def test_a_full_disk_is_said_and_once_there_is_room_the_same_click_starts_the_run(
    open_dashboard: OpenDashboard, trainer: Trainer
) -> None:
    page = await open_page(open_dashboard)
    with fill(trainer.working, leaving=20_000):
        await upload(page, 300_000)
        await page.shows("#fault-upload", "The disk of the server is full.")
    with fill(trainer.working):
        await page.find("#start").click()
        await page.shows("#fault", "The disk of the server is full.")
        await page.shows("#fault", "Nothing that you entered is lost.")
    await page.find("#start").click()
    await page.page.wait_for_url("**/dashboard#job=*")
    page.excuse("status of 507")


async def test_a_service_that_was_away_and_has_another_key_then_is_said_and_nothing_is_lost(
    service: Server,
    open_dashboard: OpenDashboard,
    trainer: Trainer,
    start_service: StartService,
) -> None:
    page = await open_page(open_dashboard)
    service.signal(signal.SIGKILL)
    service.wait()
    await page.find("#look").click()
    await page.shows("#look-state", "The service cannot be reached; it may be starting again.")
    await page.find("#start").click()
    await page.shows("#fault", "Look whether the run is among the Runs before you start it again.")
    trainer.settings["TRAINER_API_KEYS"] = "second-key"
    await asyncio.to_thread(start_service)
    await page.find("#start").click()
    await page.shows("#fault", "The service asks for its key: reload the page and give it")
    assert await page.find("#output_dir").input_value() == "even"
    page.complaints = [text for text in page.complaints if "net::ERR_" not in text]
    page.excuse("status of 401")


@pytest.mark.usefixtures("service")
async def test_who_leaves_while_a_file_is_sent_is_asked_and_otherwise_nobody_is(
    open_dashboard: OpenDashboard,
) -> None:
    page = await open_page(open_dashboard)
    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    page.page.on("dialog", stay)
    await page.page.route("**/v1/files", lambda route: None)  # it is on its way for ever
    await page.find("#look").click()  # a browser asks only those who did something on the page
    await upload(page, 100_000)
    await expect(page.find("#uploading")).to_be_visible()
    await page.page.close(run_before_unload=True)
    async with asyncio.timeout(60):
        while not asked:  # noqa: ASYNC110 (a page that stays has no event)
            await asyncio.sleep(0.05)
    assert asked == ["beforeunload"]
    assert await page.find("#output_dir").input_value() == "even"
    await page.find("#stop-upload").click()
    await expect(page.find("#uploading")).to_be_hidden()
    await page.page.reload()
    await page.shows("#verdict", "9 of 9 rows")
    assert asked == ["beforeunload"]
