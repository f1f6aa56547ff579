"""The dashboard of a service that asks for a key, which a browser sends as a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import OpenDashboard, Trainer
from tests.browser.dashboard import Jobs


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path, TRAINER_API_KEYS="made-up-key")


@pytest.mark.usefixtures("service")
async def test_with_the_key_as_password_the_page_its_files_and_its_events_come(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    await jobs.step("one", 1, 2, 3)
    known = {"username": "anybody", "password": "made-up-key"}
    page = await open_dashboard(http_credentials=known)
    await page.shows_points(3)
    await jobs.step("one", 4)
    await page.shows_points(4)
    page.excuse("401")  # what the browser is asked with before it sends the password


@pytest.mark.usefixtures("service", "jobs")
async def test_without_the_key_nothing_is_shown(open_dashboard: OpenDashboard) -> None:
    page = await open_dashboard()
    await page.shows("body", '"code":"401"')
    page.excuse("401")
