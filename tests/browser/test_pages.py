"""The page of every service at `/`, in a browser."""

from __future__ import annotations

import signal

from playwright.async_api import Browser, expect

from tests.conftest import StartServer
from tests.support.workflows import Echo


async def test_a_service_says_what_it_is_and_whether_it_answers(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server(Echo).wait_ready()
    page = await browser.new_page()
    await page.goto(server.url)
    await expect(page.locator("#state")).to_have_text("ready")
    await expect(page.get_by_role("heading")).to_have_text("classic_ml_inference_service")
    await expect(page.locator("#facts")).to_contain_text("custom")
    server.signal(signal.SIGTERM)
    await expect(page.locator("#state")).to_have_text("unreachable")
    await page.close()
