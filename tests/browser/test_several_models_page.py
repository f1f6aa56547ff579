"""The page of a service of several models: one is chosen, and the form becomes that model's."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.browser.axe import serious_faults
from tests.browser.service_page import service_page
from tests.conftest import StartServer
from tests.support.model_files import linear_onnx, two_inputs_onnx
from tests.support.several_models import SEVERAL


async def test_the_form_is_that_of_the_model_that_is_chosen(
    start_server: StartServer, browser: Browser, tmp_path: Path
) -> None:
    models = {"pairs": str(two_inputs_onnx(tmp_path)), "houses": str(linear_onnx(tmp_path).path)}
    arguments = {"models": models, "default_model": "pairs", "max_loaded_models": 1}
    server = start_server(SEVERAL, workflow_kw_args=arguments).wait_ready()
    async with service_page(browser, server) as page:
        choice = page.page.get_by_label("Model", exact=True)
        await expect(choice).to_have_value("pairs")
        await expect(page.page.get_by_role("group", name="count:0", exact=True)).to_be_visible()
        await expect(page.find("#facts")).to_contain_text("pairs, houses")
        await expect(page.find("#loaded dd")).to_have_text("pairs")
        assert await serious_faults(page.page) == []
        await choice.select_option("houses")
        await expect(page.page.get_by_role("group", name="count:0", exact=True)).to_be_hidden()
        await expect(choice).to_have_value("houses")
        await expect(choice).to_be_focused()
        await page.page.get_by_label("Dtype").select_option("float")
        await page.page.get_by_label("Values").fill("[[1, 2, 3, 4]]")
        await expect(page.find("#panel-curl pre")).to_contain_text('"model_id":"houses"')
        await page.ask()
        await page.says("Answered in")
        await expect(page.find("#answer caption")).to_have_text("float, 1 × 3")
        await expect(page.page.get_by_label("Values")).to_have_value("[[1,2,3,4]]")
        await expect(page.find("#fields")).to_contain_text("numbers, any × 4")
        await expect(page.find("#loaded dd")).to_have_text("houses")
        await page.button("Fill in the example").click()
        await expect(choice).to_have_value("houses")
        await expect(page.page.get_by_label("Values")).to_have_value("[[0,0,0,0]]")
