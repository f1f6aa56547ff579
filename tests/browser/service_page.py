"""The page of a service at `/`, as somebody uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.dashboard import PATIENCE_SECONDS
from tests.support.processes import Server

__all__ = ["ServicePage", "service_page"]

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


class ServicePage:
    """A page that is ready to ask."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def ask(self) -> None:
        await self.button("Send").click()

    async def says(self, words: str) -> None:
        await expect(self.find("#told")).to_contain_text(words)


@asynccontextmanager
async def service_page(
    browser: Browser, server: Server, **options: Any
) -> AsyncIterator[ServicePage]:
    """Open the page of a service that is ready; at the end it has complained of nothing."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        await page.goto(server.url)
        await expect(page.locator("#state")).to_have_text("ready")
        await expect(page.locator("#send")).to_be_enabled()
        yield ServicePage(page)
    finally:
        await context.close()
    assert not complaints
