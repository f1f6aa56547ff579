"""The form of a workflow's own input: what its model says is filled in, refused and sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, expect

from tests.browser.axe import serious_faults
from tests.browser.service_page import ServicePage, service_page
from tests.support.order_workflow import TakesOrders
from tests.support.processes import SERVICE, Server, clean_environment, free_port


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    port = free_port()
    command = ["serve", SERVICE, f"--bind=127.0.0.1:{port}", "--workers=1"]
    environment = clean_environment(workflow_class=TakesOrders)
    with Server(command, port=port, environment=environment) as server:
        yield server.wait_ready()


async def add_item(page: ServicePage, name: str, number: str) -> None:
    await page.button("Add to Items").click()
    item = page.page.get_by_role("group", name="Items").get_by_role("group").last
    await item.get_by_label("Name").fill(name)
    await item.get_by_label("Number").fill(number)


async def sent(page: ServicePage) -> Any:
    async with page.page.expect_request("**/service_output") as asked:
        await page.ask()
    return json.loads((await asked.value).post_data or "")["data"]


async def test_every_part_of_the_model_is_a_field_and_is_sent_as_it_is_meant(
    service: Server, browser: Browser
) -> None:
    async with service_page(browser, service) as page:
        await expect(page.page.get_by_label("Kind")).to_have_value("order")
        await add_item(page, "rope", "2")
        await add_item(page, "nail", "9")
        await page.page.get_by_label("Size").last.select_option("large")
        ship_to = page.page.get_by_role("group", name="Ship to")
        await expect(ship_to).to_contain_text("Where it goes.")
        await ship_to.get_by_label("Street").fill("Long Road 1")
        await page.page.get_by_text("More settings").click()
        bill_to = page.page.get_by_role("group", name="Bill to")
        await expect(bill_to.get_by_label("Street")).to_be_hidden()
        await page.page.get_by_label("Day").fill("2026-01-31")
        await page.button("Add to Tags").click()
        await page.page.get_by_label("Tags 1", exact=True).fill("blue")
        await page.page.get_by_label("Urgent").check()
        await page.page.get_by_label("Password").fill("made-up-secret")
        await page.page.get_by_role("textbox", name="More an object").fill('{"a": 1}')
        data = await sent(page)
        assert data == {
            "kind": "order",
            "items": [
                {"name": "rope", "number": 2, "size": "small"},
                {"name": "nail", "number": 9, "size": "large"},
            ],
            "ship_to": {"street": "Long Road 1"},
            "tags": ["blue"],
            "day": "2026-01-31",
            "ratio": 0.5,
            "urgent": True,
            "password": "made-up-secret",
            "more": {"a": 1},
        }
        await page.says("Answered in")
        await expect(page.find("#answer")).to_contain_text('"secret_length": 14')
        await expect(page.find("#panel-curl pre")).to_contain_text('"password":"…"')
        assert "made-up-secret" not in await page.find("body").inner_text()
        await expect(page.page.get_by_label("Password")).to_have_attribute("type", "password")
        await bill_to.get_by_role("checkbox").check()
        await bill_to.get_by_label("Street").fill("Short Road 2")
        await page.button("Remove Items 1").click()
        data = await sent(page)
        assert data["bill_to"] == {"street": "Short Road 2"}
        assert [item["name"] for item in data["items"]] == ["nail"]


async def test_what_is_out_of_bounds_is_told_at_its_field_before_and_by_the_service(
    service: Server, browser: Browser
) -> None:
    async with service_page(browser, service) as page:
        await page.ask()
        items = page.page.get_by_role("group", name="Items")
        await expect(items.get_by_text("add 1 more")).to_be_visible()
        await expect(page.button("Add to Items")).to_be_focused()
        await add_item(page, "rope", "10")
        await page.page.get_by_label("Street").first.fill("x")
        await page.ask()
        await expect(items.get_by_text("give 9 or less")).to_be_visible()
        await expect(page.page.get_by_text("give 2 characters or more")).to_be_visible()
        await expect(items.get_by_label("Number")).to_be_focused()
        await items.get_by_label("Number").fill("1")
        await page.page.get_by_label("Street").first.fill("Long Road")
        await page.page.get_by_text("More settings").click()
        for number in (1, 2):
            await page.button("Add to Tags").click()
            await page.page.get_by_label(f"Tags {number}", exact=True).fill("same")
        await page.ask()
        await page.says("Not answered (400)")
        await page.says("two tags are the same")


async def test_what_the_service_says_of_a_part_of_a_part_stands_at_it(
    service: Server, browser: Browser
) -> None:
    async with service_page(browser, service) as page:
        await add_item(page, "rope", "1")
        await add_item(page, "nail", "1")
        await page.page.get_by_label("Street").first.fill("Nowhere")
        await page.ask()
        items = page.page.get_by_role("group", name="Items")
        await expect(items.get_by_role("group").last.get_by_text("too many")).to_be_visible()
        await expect(items.get_by_role("group").last.get_by_label("Number")).to_be_focused()
        ship_to = page.page.get_by_role("group", name="Ship to")
        await expect(ship_to.get_by_text("no such street; see the map")).to_be_visible()
        await expect(page.find("#field-more-fault")).to_contain_text("give a whole number")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_form_has_no_serious_fault_and_fits_a_telephone(
    service: Server, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    size = {"width": 390, "height": 800}
    async with service_page(browser, service, color_scheme=scheme, viewport=size) as page:
        await page.page.get_by_text("More settings").click()
        await page.page.get_by_role("group", name="Bill to").get_by_role("checkbox").check()
        await add_item(page, "rope", "10")
        await page.button("Add to Tags").click()
        await page.ask()
        await expect(page.page.get_by_text("give 9 or less")).to_be_visible()
        assert await serious_faults(page.page) == []
        wide = await page.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"]
