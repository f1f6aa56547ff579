"""The pages that describe the API, in a browser: they load nothing from elsewhere, and say so."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.conftest import StartServer
from tests.support.workflows import Echo


@pytest.mark.parametrize(
    ("path", "shows"), [("/docs", "#swagger-ui .opblock"), ("/redoc", "redoc h1")]
)
async def test_a_page_shows_the_api_asks_nobody_else_and_complains_of_nothing(
    start_server: StartServer, browser: Browser, path: str, shows: str
) -> None:
    server = start_server(Echo).wait_ready()
    page = await browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(server.url + path, wait_until="networkidle")
    await page.locator(shows).first.wait_for()
    assert "classic_ml_inference_service" in await page.locator("body").inner_text()
    assert [url for url in asked if not url.startswith((server.url, "data:"))] == []
    assert complaints == []
