"""What the dashboard says when the way to the service, its key or its disk fails."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from ml.jobs.store import JobStore
from tests.browser.conftest import OpenDashboard, StartService, Trainer
from tests.browser.dashboard import Dashboard, Jobs
from tests.support import filling_job
from tests.support.disks import fill, small_disk
from tests.support.processes import Server

PAGES = ("/", "/dashboard", "/new", "/chat")
KNOWN = {"username": "anybody", "password": "first-key"}


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    """A service on a disk of its own, with a key."""
    with small_disk(tmp_path / "disk", 16) as disk:
        yield Trainer(disk / "service", TRAINER_API_KEYS="first-key", TRAINER_DASHBOARD_PORT="0")


async def watch(open_dashboard: OpenDashboard, jobs: Jobs) -> Dashboard:
    await jobs.start("one")
    await jobs.step("one", *range(1, 11))
    page = await open_dashboard(http_credentials=KNOWN)
    await page.find("#log-steps").check()
    await page.shows_points(10)
    return page


@pytest.mark.usefixtures("service")
async def test_a_lost_connection_is_said_and_nothing_is_missing_or_double_once_it_is_back(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    page = await watch(open_dashboard, jobs)
    await page.page.context.set_offline(True)
    await page.shows("#connection", "No news: the service cannot be reached. Trying again.")
    await jobs.step("one", *range(11, 21))
    await page.page.context.set_offline(False)
    await page.shows("#connection", "live")
    await page.shows_points(20)
    await jobs.step("one", 21)
    await page.shows_points(21)
    assert sum("STEP" in line for line in await page.messages()) == 21
    page.complaints = [text for text in page.complaints if "net::ERR_" not in text]


async def test_a_key_that_changed_is_asked_for_and_with_it_the_page_goes_on(
    open_dashboard: OpenDashboard,
    jobs: Jobs,
    trainer: Trainer,
    service: Server,
    start_service: StartService,
) -> None:
    page = await watch(open_dashboard, jobs)
    service.signal(signal.SIGTERM)
    service.wait()
    trainer.settings["TRAINER_API_KEYS"] = "second-key"
    await asyncio.to_thread(start_service)
    await page.shows("#connection", "The service asks for its key: reload the page")
    await expect(page.find("#loss-chart .plot")).to_have_attribute("data-points", "10")
    known = {**KNOWN, "password": "second-key"}
    other = await open_dashboard(http_credentials=known)
    await other.shows_points(10)
    await other.shows("#connection", "live")
    for one in (page, other):
        await one.page.close()
        one.complaints = []


@pytest.mark.usefixtures("service", "jobs")
@pytest.mark.parametrize("path", PAGES)
async def test_with_a_wrong_key_no_page_is_shown(open_dashboard: OpenDashboard, path: str) -> None:
    page = await open_dashboard(path=path, http_credentials={**KNOWN, "password": "wrong"})
    await page.shows("body", "Send a valid key")
    await expect(page.find("main, nav, form")).to_have_count(0)
    page.excuse("status of 401")


@pytest.mark.usefixtures("service")
async def test_what_a_full_disk_keeps_from_being_done_is_said_and_is_done_once_there_is_room(
    open_dashboard: OpenDashboard, jobs: Jobs, trainer: Trainer
) -> None:
    page = await watch(open_dashboard, jobs)
    with fill(trainer.working):
        await page.find("#cancel").click()
        await page.find("#confirm .danger").click()
        await page.shows("#notice", "one-model: The disk of the server is full. Once somebody has")
        await page.shows_points(10)
    await page.find("#notice button").click()
    await page.find("#cancel").click()
    await page.find("#confirm .danger").click()
    await page.shows("#status", "saving, then stopping")
    page.excuse("status of 507")


async def test_a_run_that_finds_no_room_on_the_disk_ends_and_the_page_says_why(
    open_dashboard: OpenDashboard, trainer: Trainer, start_service: StartService
) -> None:
    await asyncio.to_thread(start_service)
    page = await open_dashboard(http_credentials=KNOWN)
    async with JobStore(trainer.store_url) as store:
        await store.create(filling_job.KIND, {"output_dir": "large"}, "filling")
    await page.shows("#status", "failed")
    await page.shows("#reason", "The service's disk, or its quota on it, is full; free space")
    await expect(page.find("#resume")).to_be_visible()
