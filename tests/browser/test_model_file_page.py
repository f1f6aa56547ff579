"""The page of a model file: a field for each of its inputs, and an answer for each output."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from ml.workflows.inference.model_file_inference_workflow import ModelFileInferenceWorkflow
from tests.browser.axe import serious_faults
from tests.browser.service_page import service_page
from tests.conftest import StartServer
from tests.support.model_files import sklearn_skops, two_inputs_onnx


async def test_several_inputs_have_a_frame_each_and_several_outputs_a_table_each(
    start_server: StartServer, browser: Browser, tmp_path: Path
) -> None:
    arguments = {"path": str(two_inputs_onnx(tmp_path))}
    server = start_server(ModelFileInferenceWorkflow, workflow_kw_args=arguments).wait_ready()
    async with service_page(browser, server) as page:
        rows = page.page.get_by_role("group", name="x", exact=True)
        count = page.page.get_by_role("group", name="count:0", exact=True)
        await expect(rows).to_contain_text("numbers, any × 3")
        await expect(rows.get_by_label("Dtype")).to_have_value("float")
        await expect(rows.get_by_label("Values")).to_have_value("[[0,0,0]]")
        await expect(count).to_contain_text("numbers, 1")
        await expect(count.get_by_label("Dtype")).to_have_value("long")
        await rows.get_by_label("Values").fill("[[1, 2, 3], [4, 5, 6]]")
        await count.get_by_label("Values").fill("[10]")
        await page.ask()
        await page.says("Answered in")
        assert await page.find("#answer h3").all_inner_texts() == ["sum", "is_more", "text"]
        captions = await page.find("#answer caption").all_inner_texts()
        assert captions == ["float, 2 × 3", "bool, 2 × 3"]
        assert await page.find("#answer table").first.inner_text() == (
            "float, 2 × 3\n11\t12\t13\n14\t15\t16"
        )
        await expect(page.find("#answer .text")).to_have_text("10")
        await expect(page.page.get_by_role("tab", name="Smart contract")).to_be_hidden()
        assert await serious_faults(page.page) == []
        await count.get_by_label("Values").fill("[1, 2]")
        await page.ask()
        await page.says("Not answered (400)")
        await expect(count.get_by_text("expected shape [1]; given shape [2]")).to_be_visible()


async def test_columns_of_an_answer_have_the_names_of_the_models_classes(
    start_server: StartServer, browser: Browser, tmp_path: Path
) -> None:
    arguments = {"path": str(sklearn_skops(tmp_path).path)}
    server = start_server(ModelFileInferenceWorkflow, workflow_kw_args=arguments).wait_ready()
    async with service_page(browser, server) as page:
        await expect(page.page.get_by_label("Values")).to_have_value("[[0,0,0,0]]")
        await page.page.get_by_label("Values").fill("[[5.1, 3.5, 1.4, 0.2]]")
        await page.ask()
        heads = page.find("#answer th")
        await expect(heads).to_have_count(3)
        assert await heads.all_inner_texts() == ["setosa", "versicolor", "virginica"]
