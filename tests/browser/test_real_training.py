"""The dashboard while a job really trains, and its model is asked afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenDashboard, Trainer
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


async def test_a_training_is_watched_from_its_start_to_an_answer_of_its_model(
    open_dashboard: OpenDashboard, trainer: Trainer
) -> None:
    request = {
        "model_name": MODEL,
        "dataset_name": "rows.jsonl",
        "output_dir": "houses",
        "max_seq_length": 128,
        "max_steps": STEPS,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-3,
        "save_steps": 10,
        "validation_split": 0.2,
    }
    with trainer.server() as service:
        service.wait_ready()
        page = await open_dashboard()
        await page.shows("#empty", "No jobs yet")
        async with httpx.AsyncClient() as client:
            reply = await client.post(f"{trainer.url}/finetune", json=request, timeout=60)
        assert reply.status_code == 200, reply.text

        await expect(page.card(reply.json()["job_id"])).to_be_visible()
        await page.shows("#name", "houses")
        for chart in ("loss", "rate", "norm"):
            await page.shows_points(STEPS, chart, seconds=180)
        await expect(page.find("#status")).to_contain_text("succeeded", timeout=120_000)
        numbers = await page.numbers()
        assert numbers["Step"] == f"{STEPS} / {STEPS}"
        assert float(numbers["Eval loss"]) > 0
        await page.shows("#result", "The tuned model houses is ready. Its files are in houses.zip.")
        await page.shows("#messages", f"Checkpoint of step {STEPS} saved")

        await page.find("#prompt").fill("Which colour has house 1?")
        await page.find("#ask .primary").click()
        await expect(page.find("#answer-end")).to_contain_text("tokens, ended by", timeout=60_000)
        assert await page.find("#answer").inner_text() != ""
