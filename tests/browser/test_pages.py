"""The page of every service at `/`, in a browser."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from tests.browser.service_page import service_page
from tests.conftest import StartServer
from tests.support.processes import Server
from tests.support.tiny_llm import save_tiny_llm
from tests.support.workflows import Echo, StreamingProver, Typed


async def opened(browser: Browser, server: Server) -> tuple[Page, list[str]]:
    """Return the page of a service that is ready, and what it will complain of."""
    page = await browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(server.url)
    await expect(page.locator("#state")).to_have_text("ready")
    await expect(page.locator("#send")).to_be_enabled()
    return page, complaints


async def test_a_service_says_what_it_is_and_whether_it_answers(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server(Echo).wait_ready()
    page, complaints = await opened(browser, server)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Classic ML inference service")
    await expect(page.get_by_text("Answers with its input, whatever it is.")).to_be_visible()
    await page.get_by_label("Input").fill('{"any": "thing"}')
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#told")).to_contain_text("Answered in")
    await expect(page.locator("#answer")).to_contain_text('"any": "thing"')
    await page.get_by_label("Input").fill("no json")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".fault")).to_contain_text("stands in double quotes")
    server.signal(signal.SIGTERM)
    await expect(page.locator("#state")).to_have_text("unreachable")
    assert not complaints
    await page.close()


async def test_a_custom_workflow_has_the_fields_of_its_input_model(
    start_server: StartServer, browser: Browser
) -> None:
    page, complaints = await opened(browser, start_server(Typed).wait_ready())
    await page.get_by_label("X", exact=True).fill("3")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#field-y-fault")).to_have_text("this has to be filled in")
    await expect(page.locator("#field-y")).to_be_focused()
    await page.get_by_label("Y", exact=True).fill("1.5")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#answer")).to_contain_text('"x": 1.5')
    await expect(page.locator("#field-y-fault")).to_be_hidden()
    await expect(page.get_by_role("tab", name="Smart contract")).to_be_hidden()
    await expect(page.locator("#panel-curl pre")).to_contain_text('"data":{"x":3,"y":1.5}')
    assert not complaints
    await page.close()


async def test_a_text_is_answered_as_a_stream_and_refusals_are_told_at_the_field(
    start_server: StartServer, browser: Browser, tmp_path: Path
) -> None:
    tiny = save_tiny_llm(tmp_path / "tiny")
    server = start_server(LLMInferenceWorkflow, workflow_positional_args=[str(tiny)])
    page, complaints = await opened(browser, server.wait_ready())
    await page.get_by_label("Text").fill("hello")
    await page.get_by_text("More settings").click()
    await page.get_by_label("Max New Tokens").fill("6")
    async with page.expect_response("**/service_output") as asked:
        await page.get_by_role("button", name="Send").click()
    response = await asked.value
    assert json.loads(response.request.post_data or "")["destination"] == 2
    await expect(page.locator("#told")).to_contain_text(response.headers["x-request-id"])
    await expect(page.locator("#answer .text")).not_to_have_text("")
    await page.get_by_label("Model", exact=True).fill("no-such-adapter")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#told")).to_contain_text("Not answered (4")
    await page.get_by_label("History").fill('[{"nobody": "hello"}]')
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#field-history-fault")).to_contain_text("nobody")
    assert not complaints
    await page.close()


async def test_numbers_are_answered_as_a_table_and_told_as_a_contract_sends_them(
    start_server: StartServer, browser: Browser
) -> None:
    arguments = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    server = start_server(TorchInferenceWorkflow, workflow_kw_args=arguments)
    page, complaints = await opened(browser, server.wait_ready())
    values = page.get_by_label("Values")
    await expect(values).to_have_value("[[0,0,0,0]]")
    await expect(page.locator("#field-values-hint")).to_contain_text("Shape now: 1 × 4.")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#answer caption")).to_have_text("float, 1 × 3")
    await page.get_by_role("tab", name="Command line").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#panel-contract pre")).to_contain_text("0x0000")
    await values.fill("[[1, 2]]")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#field-values-fault")).to_contain_text("last dimension of 4")
    assert not complaints
    await page.close()


async def test_who_asks_for_a_proof_gets_it_in_place_of_a_stream(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server(StreamingProver).wait_ready()
    async with service_page(browser, server) as page:
        await page.page.get_by_label("Input").fill('"hello"')
        async with page.page.expect_request("**/service_output") as asked:
            await page.ask()
        assert json.loads((await asked.value).post_data or "")["destination"] == 2
        await expect(page.find("#answer .text")).to_have_text("HELLO")
        await page.page.get_by_label("Ask for a proof of the answer").check()
        async with page.page.expect_request("**/service_output") as asked:
            await page.ask()
        assert json.loads((await asked.value).post_data or "")["requires_proof"] is True
        await expect(page.find("#answer")).to_contain_text('"proof"')
