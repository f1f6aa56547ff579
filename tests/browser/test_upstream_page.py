"""The page of the TGI client service, in a browser, whatever the server behind it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.async_api import Browser, expect

from ml.testing.tgi_server import Behaviour, TGIServer
from tests.browser.axe import serious_faults
from tests.browser.service_page import service_page
from tests.support.processes import Server, clean_environment, free_port, until

TEXT = "Is the sky blue?"


def start(url: str, **settings: str) -> Server:
    port = free_port()
    environment = clean_environment(
        TGI_INF_WORKFLOW_POSITIONAL_ARGS=[url, 30],
        TGI_INF_WORKFLOW_KW_ARGS={"retry_params": {"tries": 1}},
        **settings,
    )
    command = ["serve", "tgi_client_inference_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
    return Server(command, port=port, environment=environment)


@pytest.fixture(scope="module")
def upstream() -> TGIServer:
    return TGIServer()


@pytest.fixture(scope="module")
def service(upstream: TGIServer) -> Iterator[Server]:
    with upstream.serving_in_thread() as url, start(url, TGI_INF_TOKEN="made-up-token") as server:
        yield server.wait_ready()


@pytest.fixture(autouse=True)
def _nothing_scripted(upstream: TGIServer) -> Iterator[None]:
    yield
    upstream.upcoming.clear()
    upstream.is_healthy = True


async def test_a_text_is_answered_with_the_token_and_can_be_asked_again(
    service: Server, upstream: TGIServer, browser: Browser
) -> None:
    async with service_page(browser, service) as page:
        await expect(page.page.get_by_label("Text", exact=True)).to_have_value(
            "The capital of France is"
        )
        await page.page.get_by_label("Text", exact=True).fill(TEXT)
        await page.ask()
        await expect(page.find("#answer .text")).to_have_text(f"You asked: {TEXT}")
        await page.says("Answered in")
        assert upstream.received[-1].headers["authorization"] == "Bearer made-up-token"
        await page.page.get_by_text("More settings").click()
        await page.page.get_by_label("Max New Tokens").fill("2")
        await page.ask()
        await expect(page.find("#answer .text")).to_have_text("You asked:")


async def test_an_answer_stands_there_as_it_comes_and_can_be_stopped(
    service: Server, upstream: TGIServer, browser: Browser
) -> None:
    left = upstream.left
    upstream.upcoming.append(Behaviour(tokens=["one", " two", *[" more"] * 98], token_seconds=2))
    async with service_page(browser, service) as page:
        await page.ask()
        await expect(page.find("#answer .text[aria-busy]")).to_contain_text("one two")
        await expect(page.button("Send")).to_be_disabled()
        await page.button("Stop").click()
        await page.says("Stopped after")
        await expect(page.find("#answer .text")).to_contain_text("one two")
        async with asyncio.timeout(60):
            while upstream.left == left:  # noqa: ASYNC110 (another thread counts)
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (
            Behaviour(status=429, retry_after="7"),
            "(429): The model server is at its limit: Model is overloaded (overloaded) "
            "Try again in 7 s.",
        ),
        (Behaviour(status=401), "refuses this service's token"),
        (Behaviour(status=500, plain_error="<b>secret</b>"), "The model server failed: HTTP 500"),
    ],
)
async def test_what_the_server_behind_refuses_is_told_with_what_to_do(
    service: Server, upstream: TGIServer, browser: Browser, behaviour: Behaviour, said: str
) -> None:
    async with service_page(browser, service) as page:
        upstream.upcoming.append(behaviour)
        await page.ask()
        await page.says("Not answered")
        await page.says(said)
        await page.ask()
        await expect(page.find("#answer .text")).to_contain_text("You asked:")
        await page.says("Answered in")


async def test_a_stream_that_breaks_off_keeps_what_came_and_says_so(
    service: Server, upstream: TGIServer, browser: Browser
) -> None:
    upstream.upcoming.append(
        Behaviour(tokens=["one", " two", " three"], token_seconds=3, drop_after=2)
    )
    async with service_page(browser, service) as page:
        await page.ask()
        await page.says("The answer ended early")
        await expect(page.find("#answer .text")).to_contain_text("one two")


async def test_a_server_that_is_away_or_ill_is_told_in_the_state(
    service: Server, upstream: TGIServer, browser: Browser
) -> None:
    async with service_page(browser, service) as page:
        upstream.is_healthy = False
        await expect(page.find("#state")).to_have_text("not available")
        await expect(page.find("#reason")).to_contain_text("not healthy")
        upstream.is_healthy = True
        await expect(page.find("#state")).to_have_text("ready")
        await expect(page.find("#reason")).to_be_hidden()
    gone = f"http://127.0.0.1:{free_port()}"
    with start(gone, TGI_INF_REQUEST_TIMEOUT_SECONDS="1") as server:
        until(lambda: server.get("/health/live").is_success, "it listens")
        away = await browser.new_page()
        await away.goto(server.url)
        await expect(away.locator("#reason")).to_contain_text("cannot be reached")
        await away.get_by_role("button", name="Send").click()
        await expect(away.locator("#told")).to_contain_text("Not answered (503)")
        await away.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_has_no_serious_fault_with_an_answer_or_a_refusal(
    service: Server, upstream: TGIServer, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    async with service_page(browser, service, color_scheme=scheme) as page:
        await page.ask()
        await page.says("Answered in")
        assert await serious_faults(page.page) == []
        upstream.upcoming.append(Behaviour(status=401))
        await page.ask()
        await page.says("Not answered")
        assert await serious_faults(page.page) == []
