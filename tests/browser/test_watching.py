"""The dashboard shows what a run holds of memory, and what its model answers as it learns."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from ml.jobs.event_type import EventType
from tests.browser.conftest import OpenDashboard
from tests.browser.dashboard import Jobs

pytestmark = pytest.mark.usefixtures("service")


async def test_memory_is_a_curve_and_answers_are_a_table_that_runs_nothing(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    page = await open_dashboard()
    await expect(page.find("#samples")).to_be_hidden()
    for step in (1, 2, 3):
        numbers = {"step": step, "total_steps": 60, "loss": 2.0, "memory_bytes": step * 2**30}
        await jobs.tell("one", EventType.PROGRESS, numbers)
    for step, answer in ((0, "<img src=x onerror=alert(1)>"), (25, "It is blue.")):
        samples = [{"prompt": "Which colour?", "answer": answer}, {"prompt": "Who?", "answer": ""}]
        await jobs.tell("one", EventType.SAMPLE, {"step": step, "samples": samples})

    await page.shows_points(3, "memory")
    await expect(page.find("#memory-chart .legend")).to_contain_text("3")
    rows = page.find("#samples tr")
    await expect(rows).to_have_count(3)
    assert await rows.locator("th, td").all_inner_texts() == [
        *("Step", "Which colour?", "Who?"),
        *("25", "It is blue.", "(nothing)"),
        *("0", "<img src=x onerror=alert(1)>", "(nothing)"),
    ]
