"""A tuned model is exported on its run's card, which tells how far it is and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from ml.finetuning.output import Output
from ml.finetuning.request import Export
from ml.jobs.event_type import EventType
from ml.jobs.job import Job, JobState
from tests.browser.axe import serious_faults
from tests.browser.conftest import OpenDashboard, Trainer
from tests.browser.dashboard import MODEL, Dashboard, Jobs
from tests.support.finetuning import save_small_llm

NAME = "one-model"


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    """A service with a small model under the name of the base; nothing converts to GGUF there."""
    save_small_llm(tmp_path / "models" / MODEL)
    return Trainer(
        tmp_path / "service", MODELS_PATH=str(tmp_path / "models"), LLAMA_CPP_PATH=str(tmp_path)
    )


@pytest_asyncio.fixture(loop_scope="module")
async def tuned(trainer: Trainer, jobs: Jobs, service: Any) -> AsyncIterator[Output]:
    """What the run `one` has left."""
    await jobs.start("one")
    output = Output(trainer.output, NAME, "one")
    output.claim([])
    config = {"peft_type": "LORA", "base_model_name_or_path": MODEL}
    (output.folder / "adapter_model.safetensors").write_bytes(b"weights")
    (output.folder / "adapter_config.json").write_text(json.dumps(config))
    await jobs.end("one", JobState.SUCCEEDED)
    yield output


def row(page: Dashboard, form: str) -> Locator:
    return page.find(f'[data-export="{form}"]')


async def newest(jobs: Jobs) -> Job:
    return (await jobs.store.list(limit=1))[0]


async def queued(jobs: Jobs, states: tuple[JobState, ...] = (JobState.QUEUED,)) -> Job:
    async with asyncio.timeout(60):
        while (job := await newest(jobs)).id == "one" or job.state not in states:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return job


async def test_a_form_is_chosen_and_its_file_can_be_taken_when_it_is_made(
    open_dashboard: OpenDashboard, jobs: Jobs, tuned: Output
) -> None:
    page = await open_dashboard("#job=one")
    await page.shows("#result", f"The tuned model {NAME} is ready.")
    await page.find("summary").filter(has_text="Export …").click()
    merged = row(page, "merged_16bit")
    await expect(merged).to_contain_text("for vLLM")
    await expect(row(page, "gguf")).to_contain_text("for llama.cpp")
    await merged.get_by_role("button", name="Export as Merged model").click()
    await expect(merged.locator(".state")).to_have_text("Waits for its turn, no. 1 in the queue")
    job = await queued(jobs)
    await jobs.claim(job.id)
    await asyncio.to_thread(
        jobs.context(job.id).progress, progress=33.33, phase="Merging the adapter into its base"
    )
    await expect(merged.locator(".state")).to_have_text("Merging the adapter into its base")
    await expect(merged.get_by_role("progressbar")).to_have_js_property("value", 33.33)
    await expect(page.find(".job")).to_have_count(1)  # it is no run
    await page.shows("#summary", "1 running, 0 queued")
    assert await serious_faults(page.page) == []

    scratch = tuned.begin_export("merged_16bit")
    (scratch / "model.safetensors").write_bytes(b"all of it")
    tuned.publish_export("merged_16bit", scratch)
    result = {"model": NAME, "run_id": "one", "exports": {}}
    await jobs.store.transition(
        job.id, JobState.SUCCEEDED, result=result, events=[(EventType.COMPLETE, result)]
    )
    link = merged.get_by_role("link", name="model.safetensors")
    await expect(merged.locator(".state")).to_have_text("Ready (9 B): model.safetensors")
    await expect(merged.get_by_role("button")).to_have_count(0)
    async with page.page.expect_download() as started:
        await link.click()
    assert (await (await started.value).path()).read_bytes() == b"all of it"
    await page.find("summary").filter(has_text="Download its files").click()
    await expect(page.find("#files")).to_contain_text("one-model-merged/model.safetensors")


async def test_what_cannot_be_made_says_why_in_its_row(
    open_dashboard: OpenDashboard, jobs: Jobs, tuned: Output
) -> None:
    page = await open_dashboard("#job=one")
    await page.find("summary").filter(has_text="Export …").click()
    gguf = row(page, "gguf")
    await gguf.get_by_role("button", name="Export").click()
    await expect(gguf.locator(".state.failed")).to_contain_text("holds no convert_hf_to_gguf.py")
    page.excuse("422")
    assert await serious_faults(page.page) == []
    assert (await newest(jobs)).id == "one"


async def test_it_is_cancelled_and_a_failure_is_told_until_it_is_wished_for_again(
    open_dashboard: OpenDashboard, jobs: Jobs, tuned: Output
) -> None:
    page = await open_dashboard("#job=one")
    await page.find("summary").filter(has_text="Export …").click()
    merged = row(page, "merged_16bit")
    await merged.get_by_role("button", name="Export").click()
    await merged.get_by_role("button", name="Cancel").click()
    await queued(jobs, (JobState.CANCELLED,))
    await merged.get_by_role("button", name="Export").click()
    job = await queued(jobs)
    await jobs.claim(job.id)
    await expect(merged.locator(".state")).to_have_text("starting")
    await jobs.end(job.id, JobState.FAILED, "OutOfMemory: the export ran out of memory")
    await expect(merged.locator(".state.failed")).to_contain_text("ran out of memory")
    await expect(merged.get_by_role("button", name="Export")).to_be_visible()


async def test_each_form_of_the_api_has_a_row_and_its_file_says_what_it_is(
    open_dashboard: OpenDashboard, jobs: Jobs, tuned: Output
) -> None:
    scratch = tuned.begin_export("gguf_q4_1")
    (scratch / "one-model.q4_1.gguf").write_bytes(b"GGUF")
    tuned.publish_export("gguf_q4_1", scratch)
    page = await open_dashboard("#job=one")
    await page.find("summary").filter(has_text="Export …").click()
    forms = await page.find("[data-export]").evaluate_all(
        "rows => rows.map((row) => row.dataset.export)"
    )
    assert sorted(forms) == sorted(get_args(Export))
    await page.find("summary").filter(has_text="More types of GGUF").click()
    await expect(row(page, "gguf_q4_1").locator(".state")).to_have_text(
        "Ready (4 B): one-model.q4_1.gguf"
    )
    await page.find("summary").filter(has_text="Download its files").click()
    await expect(page.find("#files")).to_contain_text("GGUF, q4_1, 4 B")
    assert await serious_faults(page.page) == []
