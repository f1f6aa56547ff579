"""A run that is started on a page, really trains, and whose model is asked afterwards."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenDashboard, StartService, Trainer
from tests.support.finetuning import save_small_llm, write_rows

#: A name that the service and its jobs look up under MODELS_PATH.
MODEL = "SmolLM2-135M-Instruct"
STEPS = 40


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    """A service that answers with a small model, the base of what it trains."""
    save_small_llm(tmp_path / "models" / MODEL)
    trainer = Trainer(
        tmp_path / "service",
        MODELS_PATH=str(tmp_path / "models"),
        TRAINER_WORKFLOW_KW_ARGS=json.dumps({"model": MODEL, "max_new_tokens": 24}),
        TRAINER_DTYPE="float32",
    )
    colours = ("red", "blue", "green", "white")
    pairs = [(f"Which colour has house {n}?", f"It is {colours[n % 4]}.") for n in range(20)]
    write_rows(trainer.input / "rows.jsonl", pairs)
    return trainer


async def test_an_uploaded_file_becomes_a_model_that_answers_on_pages_alone(
    open_dashboard: OpenDashboard, trainer: Trainer, start_service: StartService
) -> None:
    settings = {
        "output_dir": "houses",
        "max_steps": STEPS,
        "max_seq_length": 128,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-3,
        "save_steps": 10,
        "validation_split": 0.2,
    }
    start_service()
    page = await open_dashboard()
    await page.find("#empty").get_by_role("link", name="start a run").click()
    await page.find("#upload").set_input_files(trainer.input / "rows.jsonl")
    await expect(page.find("#verdict")).to_contain_text("20 of 20 rows", timeout=180_000)
    await page.find("#more summary").click()
    for name, value in settings.items():
        await page.find(f"#{name}").fill(str(value))
    await page.find("#start").click()
    await page.page.wait_for_url("**/dashboard#job=*")

    await expect(page.find(".job")).to_be_visible()
    await page.shows("#name", "houses")
    for chart in ("loss", "rate", "norm"):
        await page.shows_points(STEPS, chart, seconds=180)
    await expect(page.find("#status")).to_contain_text("succeeded", timeout=120_000)
    numbers = await page.numbers()
    assert numbers["Step"] == f"{STEPS} / {STEPS}"
    assert float(numbers["Eval loss"]) > 0
    await page.shows("#result", "The tuned model houses is ready.")
    await page.page.get_by_text("Download its files").click()
    async with page.page.expect_download() as started:
        await page.find("#files").get_by_role("link", name="houses.zip").click()
    archive = await (await started.value).path()
    await page.shows("#messages", f"Checkpoint of step {STEPS} saved")

    await page.find("#prompt").fill("Which colour has house 1?")
    await page.find("#ask .primary").click()
    await expect(page.find("#answer-end")).to_contain_text("tokens, ended by", timeout=60_000)
    assert await page.find("#answer").inner_text() != ""
    models = trainer.input.parent.parent / "models"
    _require_an_adapter(archive, models / MODEL, trainer.input.parent / "taken")


def _require_an_adapter(archive: Path, base: Path, folder: Path) -> None:
    """Load what was downloaded as anybody would, with peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    [config] = folder.rglob("adapter_config.json")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), config.parent)
    assert any(
        weight.abs().sum() > 0 for name, weight in model.named_parameters() if "lora_B" in name
    )
