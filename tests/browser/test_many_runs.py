"""The dashboard on a store with many runs, one of them long, and for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.conftest import OpenDashboard, Trainer, jobs_of
from tests.browser.dashboard import Jobs
from tests.support.many_runs import LONGEST, fill_store

RUNS, STEPS = 170, 30_000

pytestmark = pytest.mark.usefixtures("service")


@pytest_asyncio.fixture(loop_scope="module")
async def jobs(trainer: Trainer) -> AsyncIterator[Jobs]:
    file = Path(trainer.store_url.removeprefix("sqlite:///"))
    await asyncio.to_thread(fill_store, file, runs=RUNS, events=STEPS + 2000, longest=STEPS)
    async with jobs_of(trainer) as jobs:
        yield jobs


async def test_a_long_run_is_drawn_of_few_points_and_a_hundred_runs_are_listed(
    open_dashboard: OpenDashboard,
) -> None:
    page = await open_dashboard()
    await page.shows("#loss-chart .legend", f"step {STEPS}")
    assert await page.points() <= 2000
    await expect(page.find("#thinned")).to_be_visible()
    await expect(page.find("#job-list li")).to_have_count(100)
    assert await page.find("*").count() < 3000
    await page.find("#log-steps").check()
    newest = [f"step {n}" for n in range(STEPS - 299, STEPS + 1)]
    await expect(page.find("#messages li span:first-child")).to_have_text(newest)

    await page.find("#older").click()
    await expect(page.find("#job-list li")).to_have_count(RUNS)
    await expect(page.find("#older")).to_be_hidden()
    await page.card("run-0169").locator(".pick").click()
    await page.shows("#name", "run-0169-model")
    await page.shows_points(12)
    await expect(page.find("#thinned")).to_be_hidden()
    assert LONGEST not in await page.find("#subtitle").inner_text()
