"""The dashboard of a service that asks for a key, which a browser sends as a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Error

from tests.browser.conftest import OpenDashboard, Trainer
from tests.browser.dashboard import Jobs


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    trainer = Trainer(tmp_path, TRAINER_API_KEYS="made-up-key")
    trainer.settings["TRAINER_DASHBOARD_PORT"] = str(trainer.port)
    return trainer


@pytest.mark.usefixtures("service")
async def test_with_the_key_as_password_the_page_its_files_and_its_events_come(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    await jobs.step("one", 1, 2, 3)
    known = {"username": "anybody", "password": "made-up-key"}
    page = await open_dashboard(path="/", http_credentials=known)
    assert page.page.url.startswith(f"{page.url}/dashboard")
    await page.shows_points(3)
    await jobs.step("one", 4)
    await page.shows_points(4)


@pytest.mark.usefixtures("service", "jobs")
async def test_without_the_key_nothing_is_shown(open_dashboard: OpenDashboard) -> None:
    with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        await open_dashboard()
