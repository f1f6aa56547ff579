"""Pages that watch a run for long hold as much as at first."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from playwright.async_api import CDPSession

from ml.jobs.database import sync_engine
from ml.jobs.event_type import EventType, NewEvent
from ml.jobs.events import add_events
from tests.browser.conftest import OpenDashboard
from tests.browser.dashboard import Dashboard, Jobs

#: More than a page keeps of a curve, so that it is full in the middle of the watch.
EVENTS = 15_000
BATCH = 250
#: Generous: what is measured varies by some hundred KiB.
MOST_GROWTH_BYTES = 4 * 2**20

pytestmark = pytest.mark.usefixtures("service")


def step(number: int) -> NewEvent:
    numbers = {
        "step": number,
        "total_steps": 10 * EVENTS,
        "loss": 1 + math.exp(-number / 5000) + (number * 7919 % 1000) / 5000,
        "learning_rate": 2e-4,
        "grad_norm": 1 + math.sin(number) / 4,
        "step_time": 0.1,
        "memory_bytes": 2**31 + number * 4096,
    }
    return EventType.PROGRESS, numbers


async def tell(jobs: Jobs, job_id: str, first: int, last: int, pause_seconds: float = 0) -> None:
    """Append steps as they would come, many at once."""
    engine = sync_engine(jobs.store.url)

    def add(numbers: range) -> None:
        with engine.begin() as connection:
            add_events(connection, job_id, [step(number) for number in numbers])

    for start in range(first, last + 1, BATCH):
        await asyncio.to_thread(add, range(start, min(start + BATCH, last + 1)))
        await asyncio.sleep(pause_seconds)
    engine.dispose()


async def held(page: Dashboard, devtools: CDPSession, steps: int) -> dict[str, Any]:
    """Return what a page holds once it has drawn the newest step."""
    await page.shows("#loss-chart .legend", f"step {steps}")
    await devtools.send("HeapProfiler.collectGarbage")
    metrics = (await devtools.send("Performance.getMetrics"))["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}


async def test_what_two_pages_hold_does_not_grow_with_the_events(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    pages = [await open_dashboard(), await open_dashboard()]
    sessions = []
    for page in pages:
        await page.find("#log-steps").check()
        sessions.append(await page.page.context.new_cdp_session(page.page))
        await sessions[-1].send("Performance.enable")
    await tell(jobs, "one", 1, EVENTS)
    middle = [await held(*both, EVENTS) for both in zip(pages, sessions, strict=True)]
    await tell(jobs, "one", EVENTS + 1, 2 * EVENTS)
    end = [await held(*both, 2 * EVENTS) for both in zip(pages, sessions, strict=True)]
    for page, before, after in zip(pages, middle, end, strict=True):
        assert await page.points() <= 4000
        assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < MOST_GROWTH_BYTES
        assert after["Nodes"] - before["Nodes"] < 2000
        assert after["JSEventListeners"] - before["JSEventListeners"] < 50
        assert await page.find("*").count() < 3000
