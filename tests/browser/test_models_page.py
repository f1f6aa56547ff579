"""The page of tuned models: found, downloaded, trained on and deleted in a browser."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenDashboard, StartService, Trainer
from tests.browser.dashboard import Jobs
from tests.browser.test_accessibility import faults
from tests.support.finetuning import save_small_llm
from tests.support.processes import free_port

BASE = "small"
WEIGHTS = b"no weights at all"


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    save_small_llm(tmp_path / "models" / BASE)
    arguments = json.dumps({"model": BASE})
    models = str(tmp_path / "models")
    return Trainer(tmp_path / "service", MODELS_PATH=models, TRAINER_WORKFLOW_KW_ARGS=arguments)


def place(trainer: Trainer, name: str, *, job_id: str | None = None, base: str = BASE) -> Path:
    """Put what an adapter is known by among the tuned models."""
    folder = trainer.output / name
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 4}
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if job_id is not None:
        (folder / ".job").write_text(job_id)
    return folder


@pytest.mark.usefixtures("service")
async def test_a_model_is_found_downloaded_trained_on_and_deleted(
    open_dashboard: OpenDashboard, trainer: Trainer
) -> None:
    page = await open_dashboard(path="/models")
    await page.shows("#empty", "No tuned models yet")

    place(trainer, "houses", job_id="ft-1")
    (trainer.output / "houses.zip").write_bytes(b"zipped")
    (trainer.output / "houses-gguf").mkdir()
    (trainer.output / "houses-gguf" / ".job").write_text("ft-1")
    (trainer.output / "houses-gguf" / "houses.gguf").write_bytes(b"GGUF")
    place(trainer, "other", base="<img src=x onerror=alert(1)>")
    place(trainer, "<img src=x onerror=alert(1)>")
    await page.page.reload()
    await page.shows("#count", "2 models")
    await page.find("#search").fill("houses ft-1")
    await page.shows("#count", "1 model,")
    card = page.find(".model")
    await expect(card).to_have_count(1)
    await expect(card.locator(".name")).to_have_text("houses")
    assert await card.locator("dd").all_inner_texts() == ["small", "ft-1", "just now", "92 B"]
    await expect(card.locator(".loaded")).to_have_text("loads when it is asked")
    assert await card.get_by_role("link", name="ft-1").get_attribute("href") == "dashboard#job=ft-1"
    assert await card.locator(".chat").get_attribute("href") == "chat?model=houses"

    await card.locator(".files summary").click()
    await expect(card.locator(".hash")).to_have_count(4)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    await expect(card.locator(".files ul")).to_contain_text(f"SHA-256 {digest}")
    async with page.page.expect_download() as started:
        await card.get_by_role("link", name="adapter_model.safetensors").click()
    assert (await (await started.value).path()).read_bytes() == WEIGHTS

    await card.locator(".on").click()
    await expect(page.find("#model_here")).to_have_value("houses")

    await page.page.goto(f"{trainer.url}/models?search=houses")
    await card.locator(".delete").click()
    await page.shows("#delete-title", "Delete houses?")
    assert await page.find("#goes li").all_inner_texts() == [
        "Adapter: 2 files, 82 B",
        "All in one archive: 1 file, 6 B",
        "GGUF: 1 file, 4 B",
    ]
    await page.find("#delete").get_by_role("button", name="Keep it").click()
    assert (trainer.output / "houses").is_dir()
    await card.locator(".delete").click()
    await page.find("#delete").get_by_role("button", name="Delete it").click()
    await page.shows("#count", "houses is deleted.")
    assert not list(trainer.output.glob("houses*"))


@pytest.mark.usefixtures("service")
async def test_a_model_that_a_run_needs_is_not_deleted_and_the_page_says_why(
    open_dashboard: OpenDashboard, trainer: Trainer, jobs: Jobs
) -> None:
    place(trainer, "houses", job_id="ft-1")
    await jobs.queue("ft-2", model_name="houses")
    page = await open_dashboard(path="/models")
    await page.find(".delete").click()
    await page.find("#delete").get_by_role("button", name="Delete it").click()
    await page.shows("#notice", "houses is not deleted: job ft-2, which is queued, needs 'houses'")
    await expect(page.find(".model")).to_have_count(1)
    page.excuse("status of 409")


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_two_hundred_models_come_a_page_at_a_time_and_can_be_read_by_all(
    open_dashboard: OpenDashboard, trainer: Trainer, scheme: Literal["light", "dark"]
) -> None:
    for number in range(200):
        place(trainer, f"model-{number:03}")
    page = await open_dashboard(path="/models", color_scheme=scheme)
    await page.shows("#count", "200 models, newest first")
    cards = page.find(".model")
    for shown in (50, 100, 150):
        await expect(cards).to_have_count(shown)
        await page.find("#more").click()
    await expect(cards).to_have_count(200)
    await expect(page.find("#more")).to_be_hidden()
    names = await page.find(".model .name").all_inner_texts()
    assert len(set(names)) == 200
    await page.find("#search").fill("model-017")
    await expect(cards).to_have_count(1)
    await cards.locator(".files summary").click()
    await expect(cards.locator(".hash")).to_have_count(2)
    assert await faults(page) == []
    await cards.locator(".delete").click()
    await page.shows("#delete-title", "Delete model-017?")
    assert await faults(page) == []
    for width in (390, 2560):
        await page.page.set_viewport_size({"width": width, "height": 900})
        overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not await page.page.evaluate(overflow)


@pytest.mark.usefixtures("service")
async def test_without_an_llm_service_the_commands_to_hand_one_over_are_shown(
    open_dashboard: OpenDashboard, trainer: Trainer
) -> None:
    place(trainer, "houses")
    page = await open_dashboard(path="/models")
    await expect(page.find(".serve")).to_have_count(0)
    await page.find(".elsewhere summary").click()
    await page.shows(".elsewhere .code", f"{trainer.url}/v1/models/houses/files/houses.zip")
    await page.shows(".elsewhere .code", "curl -f -T houses.zip")


async def test_what_an_llm_service_does_not_take_is_told_at_the_model(
    open_dashboard: OpenDashboard, trainer: Trainer, jobs: Jobs, start_service: StartService
) -> None:
    trainer.settings["TRAINER_SERVE_URL"] = f"http://127.0.0.1:{free_port()}"
    place(trainer, "houses")
    (trainer.output / "houses.zip").write_bytes(b"zipped")
    start_service()
    page = await open_dashboard(path="/models")
    await page.find(".serve").click()
    await page.shows(".served", "It is not served: The LLM service of TRAINER_SERVE_URL")
    await expect(page.find(".serve")).to_be_enabled()
    page.excuse("status of 502")
