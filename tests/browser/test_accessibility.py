"""The pages of the trainer, light and dark, by the rules of axe."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import expect

from tests.browser.axe import serious_faults
from tests.browser.conftest import OpenDashboard, Trainer
from tests.browser.dashboard import Dashboard, Jobs
from tests.support.finetuning import save_small_llm, write_rows

MODEL = "small"


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    save_small_llm(tmp_path / "models" / MODEL)
    trainer = Trainer(tmp_path / "service", MODELS_PATH=str(tmp_path / "models"))
    write_rows(
        trainer.input / "rows.jsonl", [(f"How old is {n}?", f"{n} years.") for n in range(9)]
    )
    (trainer.input / "bad.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    return trainer


async def faults(dashboard: Dashboard) -> list[str]:
    return await serious_faults(dashboard.page)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_has_a_serious_fault(
    open_dashboard: OpenDashboard, jobs: Jobs, scheme: Literal["light", "dark"]
) -> None:
    home = await open_dashboard(path="/", color_scheme=scheme)
    await expect(home.find("#state")).to_have_text("ready")
    assert await faults(home) == []

    runs = await open_dashboard(color_scheme=scheme)
    await runs.shows("#empty", "No jobs yet")
    assert await faults(runs) == []
    await jobs.start("one")
    await jobs.step("one", *range(1, 12))
    await runs.shows_points(11)
    assert await faults(runs) == []

    new = await open_dashboard(path="/new", color_scheme=scheme)
    await new.shows("#look-state", "Choose data and a model")
    for summary in await new.find("summary:visible").all():
        await summary.click()
    assert await faults(new) == []
    for file in ("rows.jsonl", "bad.jsonl"):
        await new.find("#dataset_file").select_option(file)
        await new.shows("#look-state", f"{file} (")
        await new.find("#lora_r").fill("0")
        await new.find("#start").click()
        await new.shows("#fault-lora_r", "Give a whole number")
        assert await faults(new) == []
        await new.find("#lora_r").fill("8")
    new.excuse("status of 422")
