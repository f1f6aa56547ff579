"""The page of the proof service, in a browser: a proof is asked for, comes, and is checked."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from ml.jobs.job import JobState
from ml.jobs.process import Process
from ml.jobs.scheduler import lease_name
from ml.jobs.store import JobStore
from ml.proving.manifest import Manifest
from tests.browser.axe import serious_faults
from tests.browser.service_page import service_page
from tests.support.circuits import SETOSA, iris_artifact, slow_artifact
from tests.support.processes import CLIENT, Server, clean_environment, free_port

VALUES = json.dumps([SETOSA])


def start(folder: Path, artifact: Path, **arguments: float) -> Server:
    port = free_port()
    environment = clean_environment(
        EZKL_WORKFLOW_POSITIONAL_ARGS=[str(artifact)],
        EZKL_WORKFLOW_KW_ARGS=arguments,
        WORKING_PATH=str(folder),
    )
    command = ["serve", "ezkl_proof_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
    return Server(command, port=port, environment=environment)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("proofs"), iris_artifact()) as server:
        yield server.wait_ready()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held_jobs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JobStore]:
    """The jobs of a service whose proofs are all jobs, none of which begins."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "proofs").mkdir()
    async with JobStore(f"sqlite:///{folder}/proofs/jobs.sqlite") as store:
        process = Process.numbered(os.getpid())
        name = f"{process}/test"
        assert await store.acquire_lease(lease_name(process.host), name, 600) == name
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held_service(held_jobs: JobStore) -> AsyncIterator[Server]:
    folder = Path(held_jobs.url.removeprefix("sqlite:///")).parents[1]
    seconds = Manifest.read(slow_artifact()).proof_seconds * 0.95
    with start(folder, slow_artifact(), proof_seconds=seconds) as server:
        yield server.wait_ready()


async def test_a_proof_comes_is_found_valid_and_can_be_kept(
    service: Server, browser: Browser
) -> None:
    async with service_page(browser, service) as page:
        await expect(page.page.get_by_text("Every answer comes with its proof.")).to_be_visible()
        await expect(page.page.get_by_role("checkbox")).to_have_count(0)
        await page.page.get_by_label("Values").fill(VALUES)
        await page.ask()
        await page.says("Answered in")
        await expect(page.find("#answer caption")).to_have_text("float, 1 × 3")
        await page.button("Verify the proof").click()
        await expect(page.find(".verdict")).to_have_text("✓ The proof is valid")
        async with page.page.expect_download() as begun:
            await page.button("Download the proof").click()
        download = await begun.value
        assert download.suggested_filename == "proof.json"
        kept = json.loads((await download.path()).read_bytes())
        calldata = {"calldata": kept["calldata"]}
        assert CLIENT.post(f"{service.url}/verify", json=calldata).json()["valid"]


def another_digit(calldata: str) -> str:
    return f"{calldata[:402]}{int(calldata[402], 16) ^ 1:x}{calldata[403:]}"


def cut(calldata: str) -> str:
    return calldata[:-2]


@pytest.mark.parametrize(
    ("altered", "said"),
    [(another_digit, "✗ The proof is not valid"), (cut, "this is none of verifyProof")],
)
async def test_of_a_proof_that_was_altered_on_its_way_the_page_says_so(
    service: Server, browser: Browser, altered: Callable[[str], str], said: str
) -> None:
    async def tamper(route: Route) -> None:
        reply = await route.fetch()
        answer = await reply.json()
        await route.fulfill(
            response=reply, json={**answer, "calldata": altered(answer["calldata"])}
        )

    async with service_page(browser, service) as page:
        await page.page.route("**/service_output", tamper)
        await page.page.get_by_label("Values").fill(VALUES)
        await page.ask()
        await page.button("Verify the proof").click()
        await expect(page.find(".verdict.refused")).to_contain_text(said)


async def test_who_stops_waiting_for_a_job_ends_it(
    held_service: Server, held_jobs: JobStore, browser: Browser
) -> None:
    async with service_page(browser, held_service) as page:
        await page.page.get_by_label("Values").fill(VALUES)
        await page.ask()
        await page.says("This takes longer: job proof")
        async with page.page.expect_response("**/cancel") as cancelled:
            await page.button("Stop").click()
        assert (await cancelled.value).ok
        await page.says("Stopped after")
        [job] = await held_jobs.list(None, 1)
        assert job.state is JobState.CANCELLED


async def test_of_a_job_that_ends_without_an_answer_the_page_says_how(
    held_service: Server, held_jobs: JobStore, browser: Browser
) -> None:
    async with service_page(browser, held_service) as page:
        await page.page.get_by_label("Values").fill(VALUES)
        await page.ask()
        await page.says("This takes longer: job proof")
        [job] = await held_jobs.list(None, 1)
        assert CLIENT.post(f"{held_service.url}/proofs/{job.id}/cancel").is_success
        await page.says(f"Not answered: job {job.id} was cancelled")
        await expect(page.button("Send")).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_has_no_serious_fault_with_a_proof_or_a_refusal(
    service: Server, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    async with service_page(browser, service, color_scheme=scheme) as page:
        assert await serious_faults(page.page) == []
        await page.ask()
        await page.says("Answered in")
        for summary in await page.find("#answer summary").all():
            await summary.click()
        await page.button("Verify the proof").click()
        await expect(page.find(".verdict.valid")).to_be_visible()
        assert await serious_faults(page.page) == []
        await page.page.get_by_label("Values").fill("[[1, 2]]")
        await page.ask()
        await page.says("Not answered (400)")
        assert await serious_faults(page.page) == []
