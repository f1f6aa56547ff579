"""The page on which a run is started, over one service that trains nothing by itself."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Error, Route, expect

from tests.browser.conftest import OpenDashboard, Trainer, jobs_of
from tests.browser.dashboard import Dashboard, Jobs
from tests.support.finetuning import save_small_llm, write_rows

MODEL = "small"
LINES = [json.dumps({"prompt": f"Where is house {n}?", "completion": f"At {n}."}) for n in range(8)]
DATA = "\n".join([*LINES, "{broken", '{"prompt": "and this?"}', ""])


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    root = tmp_path_factory.mktemp("trainer")
    save_small_llm(root / "models" / MODEL)
    trainer = Trainer(
        root / "service",
        MODELS_PATH=str(root / "models"),
        TRAINER_MAX_UPLOAD_BYTES="20000",
        HF_HUB_OFFLINE="1",
    )
    write_rows(
        trainer.input / "rows.jsonl", [(f"How old is {n}?", f"{n} years.") for n in range(9)]
    )
    (trainer.input / "table.csv").write_text("ask,say,note\nWho?,I am.,a\nWhere?,Here.,b\n")
    (trainer.input / "bad.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    return trainer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs(trainer: Trainer) -> AsyncIterator[Jobs]:
    async with jobs_of(trainer) as jobs:
        yield jobs


@pytest.fixture(scope="module", autouse=True)
def service(trainer: Trainer, jobs: Jobs) -> Any:
    with trainer.server() as server:
        yield server.wait_ready()


async def open_page(open_dashboard: OpenDashboard, **options: Any) -> Dashboard:
    page = await open_dashboard(path="/new", **options)
    await expect(page.find("#model_here")).to_have_value(MODEL)
    await expect(page.find("#curl")).to_contain_text('"model_name"')
    return page


async def choose(page: Dashboard, file: str) -> None:
    await page.find("#dataset_file").select_option(file)
    await expect(page.find("#verdict")).to_be_visible()


async def upload(page: Dashboard, name: str, content: bytes) -> None:
    file: Any = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    await page.find("#upload").set_input_files(file)


async def start(page: Dashboard, jobs: Jobs) -> Any:
    """Start the run; return its record, which the dashboard shows then."""
    await page.find("#start").click()
    await page.page.wait_for_url("**/dashboard#job=*")
    job = (await jobs.store.list(limit=1))[0]
    assert page.page.url.endswith(job.id)
    return job


async def test_from_an_uploaded_file_to_a_queued_run_with_the_settings_that_were_typed(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    page = await open_page(open_dashboard)
    await page.shows("#most-bytes", "Up to 19.5 KiB")
    await upload(page, "houses.jsonl", DATA.encode())
    await page.shows("#uploaded", "houses.jsonl is uploaded and chosen.")
    await page.shows(
        "#verdict", "8 of 10 rows can be trained on, read as prompts and their answers"
    )
    await page.shows("#verdict", "2 rows cannot be used and would be left out.")
    faults = page.find("#row-faults tr")
    await expect(faults.nth(1)).to_contain_text("9")
    await expect(faults.nth(1)).to_contain_text("not JSON")
    await expect(faults.nth(2)).to_contain_text("10")
    await expect(faults.nth(2)).to_contain_text("completion is missing")
    await expect(page.find("#rows tr").first).to_have_text("Linepromptcompletion")
    await expect(page.find("#rows tr").nth(1)).to_contain_text("Where is house 0?")
    sample = page.find("#samples li").first
    await expect(sample.locator("mark")).to_have_text("At 0.<|im_end|>")
    await expect(sample).to_contain_text("<|im_start|>user")

    await page.find("#max_steps").fill("12")
    await page.find("#learning_rate").fill("0.005")
    await page.find("#more summary").click()
    await page.find("#seed").fill("7")
    await page.find("#seed").blur()
    await page.shows("#expected", "12")
    await page.shows("#expected", "Memory at its peak")
    await page.find("#output_dir").fill("houses")
    await page.shows("#curl", '"output_dir": "houses"')
    told = json.loads(str(await page.find("#curl").text_content()).split("-d '")[1].rstrip("'"))
    job = await start(page, jobs)
    assert told.items() <= job.request.items()
    assert told.pop("dataset_name").startswith("file-")
    assert told == {
        "model_name": MODEL,
        "max_steps": 12,
        "learning_rate": 0.005,
        "seed": 7,
        "output_dir": "houses",
    }
    await page.shows("#name", "houses")
    await page.shows("#status", "queued")


async def test_a_file_that_is_chosen_before_the_page_is_ready_is_sent_once_it_is(
    open_dashboard: OpenDashboard,
) -> None:
    page = await open_dashboard()
    ready = asyncio.Event()

    async def held(route: Route) -> None:
        await ready.wait()
        await route.continue_()

    await page.page.route("**/new_run.js", held)
    await page.page.goto(page.page.url.replace("dashboard", "new"), wait_until="commit")
    await upload(page, "early.jsonl", DATA.encode())
    with pytest.raises(Error, match="Timeout"):
        await page.find("#output_dir").click(timeout=1000)
    ready.set()
    await page.shows("#uploaded", "early.jsonl is uploaded and chosen.")
    await page.shows("#verdict", "8 of 10 rows can be trained on")


async def test_a_clone_has_the_settings_of_a_run_and_the_next_name(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    wished = {
        "model_name": MODEL,
        "dataset_name": "rows.jsonl",
        "output_dir": "ages-2",
        "max_steps": -1,
        "num_train_epochs": 0.5,
        "lora_r": 4,
        "target_modules": ["q_proj", "v_proj"],
        "packing": True,
        "metadata": {"why": "to see"},
    }
    await jobs.queue("first", **wished)
    page = await open_dashboard("#job=first")
    await page.find("#clone").click()
    await expect(page.find("#output_dir")).to_have_value("ages-3")
    await page.shows("#verdict", "9 of 9 rows")
    await page.find("#learning_rate").fill("0.01")
    job = await start(page, jobs)
    assert job.id != "first"
    changed = {"output_dir": "ages-3", "learning_rate": 0.01}
    assert (wished | changed).items() <= job.request.items()


async def test_what_is_typed_outlives_a_reload_until_it_is_cleared(
    open_dashboard: OpenDashboard,
) -> None:
    page = await open_page(open_dashboard)
    await choose(page, "rows.jsonl")
    await page.find("#output_dir").fill("kept")
    await page.find('[name="by"][value="epochs"]').check()
    await page.find("#num_train_epochs").fill("2.5")
    await page.page.reload()
    await page.shows("#verdict", "9 of 9 rows")
    await expect(page.find("#output_dir")).to_have_value("kept")
    await expect(page.find("#num_train_epochs")).to_have_value("2.5")
    await expect(page.find("#max_steps")).to_be_hidden()
    await page.shows("#curl", '"max_steps": -1')
    await page.find("#clear").click()
    await expect(page.find("#output_dir")).to_have_value("")
    await expect(page.find("#report")).to_be_hidden()


async def test_columns_of_other_names_are_mapped_by_choosing_them(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    page = await open_page(open_dashboard)
    await choose(page, "table.csv")
    await page.shows("#refusal", "no known columns; there are ask, note, say")
    await page.find("#format").select_option("instruction")
    await page.find('[name="column_map.instruction"]').select_option("ask")
    await page.find('[name="column_map.output"]').select_option("say")
    await page.shows("#verdict", "2 of 2 rows can be trained on, read as instructions")
    await page.shows("#warnings", "Columns that are not read: note (2 rows).")
    await expect(page.find("#refusal")).to_be_hidden()
    job = await start(page, jobs)
    assert job.request["column_map"] == {"instruction": "ask", "output": "say"}
    page.excuse("status of 422")


async def test_a_query_is_asked_for_with_its_values(
    open_dashboard: OpenDashboard, jobs: Jobs, trainer: Trainer
) -> None:
    with closing(sqlite3.connect(trainer.input / "notes.db")) as database, database:
        database.execute("CREATE TABLE notes (text TEXT, year INT)")
    page = await open_page(open_dashboard)
    await page.find('[name="way"][value="query"]').check()
    await page.find('[name="query_params.query"]').fill("SELECT text FROM notes WHERE year = ?")
    await page.find('[name="query_params.params"]').fill("[2020")
    await page.find("#start").click()
    await page.shows('[id="fault-query_params.params"]', "Give JSON, or leave it empty.")
    await page.find('[name="query_params.params"]').fill("[2020]")
    job = await start(page, jobs)
    assert job.request["query_params"]["params"] == [2020]
    assert job.request["max_steps"] == 60


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.txt", b"a", "rows.txt: its name has to end in .jsonl, .json, .csv, .parquet."),
        ("big.jsonl", b"-" * 20_001, "big.jsonl has 19.5 KiB; the service takes less than"),
        (
            "fits-alone.jsonl",
            b"-" * 19_950,
            "fits-alone.jsonl has 19.5 KiB; the service takes",
        ),
        ("none.jsonl", b"", "none.jsonl is empty."),
    ],
)
async def test_a_file_that_is_not_taken_is_refused_in_a_sentence(
    open_dashboard: OpenDashboard, name: str, content: bytes, sentence: str
) -> None:
    page = await open_page(open_dashboard)
    await upload(page, name, content)
    await page.shows("#fault-upload", sentence)
    await expect(page.find("#upload")).to_have_attribute("aria-invalid", "true")
    await expect(page.find("#uploading")).to_be_hidden()
    if name == "fits-alone.jsonl":
        page.excuse("status of 413")
    await upload(page, "good.jsonl", LINES[0].encode())
    await page.shows("#verdict", "1 of 1 row can be trained on")
    await expect(page.find("#fault-upload")).to_be_hidden()


@pytest.mark.parametrize(
    ("field", "value", "place", "sentence"),
    [
        ("lora_r", "513", "lora_r", "Give a whole number, at least 1, at most 512."),
        ("max_steps", "1.5", "max_steps", "Give a whole number, at least 1."),
        ("learning_rate", "0", "learning_rate", "Give a number, above 0, at most 1."),
        ("metadata", "{", "metadata", "Give JSON, or leave it empty."),
        ("metadata", "[1]", "metadata", "give an object"),
        ("target_modules", "nope", "target_modules", "'nope' is none of the model's"),
        ("early_stopping_patience", "2", None, "early_stopping_patience needs a validation_split"),
        ("output_dir", "ä", "output_dir", "'ä' is no plain name of letters"),
        ("output_dir", MODEL, "output_dir", "'small' is the name of a base model"),
        ("model_other", "no/where", "model_name", "'no/where' cannot be loaded"),
        ("dataset_hub", "no/where", "dataset_name", "as a data set of the hub"),
    ],
)
async def test_what_cannot_be_is_said_at_its_field_and_nothing_is_queued(
    open_dashboard: OpenDashboard,
    jobs: Jobs,
    field: str,
    value: str,
    place: str | None,
    sentence: str,
) -> None:
    page = await open_page(open_dashboard)
    before = len(await jobs.store.list())
    await page.find("#more summary").click()
    await page.find("#dataset_file").select_option("rows.jsonl")
    if field == "model_other":
        await page.find("#model_here").select_option("")
    if field == "dataset_hub":
        await page.find('[name="way"][value="hub"]').check()
    await page.find(f"#{field}").fill(value)
    await page.find("#start").click()
    await page.shows(f"#fault-{place}" if place else "#fault", sentence)
    if place:
        await expect(page.find("#fault")).to_be_hidden()
        assert await page.page.evaluate("document.activeElement.name") == field
    await expect(page.find("#start")).to_be_enabled()
    assert await page.find(f"#{field}").input_value() == value
    assert len(await jobs.store.list()) == before
    page.complaints = [text for text in page.complaints if "status of " not in text]


async def test_a_file_that_cannot_be_trained_on_says_why(open_dashboard: OpenDashboard) -> None:
    page = await open_page(open_dashboard)
    await choose(page, "bad.jsonl")
    await page.shows("#refusal", "Nothing can be trained on this: 2 of 2 rows are not usable")
    await page.shows("#row-faults", "name them in column_map")
    await page.find("#start").click()
    await page.shows("#fault", "2 of 2 rows are not usable")
    page.excuse("status of 422")


async def test_a_phone_shows_it_without_scrolling_sideways(open_dashboard: OpenDashboard) -> None:
    page = await open_page(open_dashboard, viewport={"width": 360, "height": 740}, has_touch=True)
    await choose(page, "rows.jsonl")
    for summary in await page.find("summary:visible").all():
        await summary.click()
    assert await page.page.evaluate("document.documentElement.scrollWidth") == 360
