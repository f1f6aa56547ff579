"""The chat page, over a service with a language model and over a trainer with a tuned one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from ml.finetuning.feedback import FEEDBACK_FILE
from ml.jobs.job import JobState
from tests.browser.axe import serious_faults
from tests.browser.conftest import OpenDashboard, Trainer
from tests.browser.dashboard import Dashboard, Jobs
from tests.support.finetuning import save_small_llm
from tests.support.processes import PATIENCE_SECONDS, Server, clean_environment, free_port
from tests.support.requests import eventually
from tests.support.tiny_llm import save_adapter, save_tiny_llm

AWKWARD = "it's \"so\" \\ back, $HOME `ls` !x\nnew line, \té 漢 😀 </pre> %s {0} ''' \u2028"
#: So many positions that an answer takes as long as a test needs.
ENDLESS = 32_768
MOST_IN_FLIGHT = 2
#: Of an answer that has begun.
BEGUN = re.compile(r"\w.{20}", re.DOTALL)


def save_endless_llm(folder: Path) -> Path:
    save_tiny_llm(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": ENDLESS}))
    return folder


@contextmanager
def serving(model: Path, port: int = 0, **settings: str) -> Iterator[Server]:
    """Run the LLM service on a model."""
    port = port or free_port()
    variables = {
        "FLASK_LLM_WORKFLOW_POSITIONAL_ARGS": json.dumps([str(model)]),
        "FLASK_LLM_WORKFLOW_KW_ARGS": json.dumps({"max_new_tokens": ENDLESS}),
        "FLASK_LLM_MAX_IN_FLIGHT": str(MOST_IN_FLIGHT),
        **settings,
    }
    command = ["serve", "llm_inference_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
    environment = clean_environment() | variables
    with Server(command, port=port, environment=environment) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless_llm(tmp_path_factory.mktemp("models") / "endless")


@pytest.fixture(scope="module")
def llm(endless: Path) -> Iterator[Server]:
    with serving(endless) as server:
        yield server


class Chat:
    """The page, as somebody uses it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    async def opens(self, address: str) -> None:
        await self.page.goto(address)
        await expect(self.find("#state")).to_have_text("ready")

    async def set(self, **settings: str) -> None:
        if await self.find("#panel[open]").count() == 0:
            await self.find("#panel > summary").click()
        for name, value in settings.items():
            if not await self.find(f"#{name}").is_visible():
                await self.find("#settings summary").click()
            await self.find(f"#{name}").fill(value)

    async def ask(self, text: str) -> None:
        await self.find("#text").fill(text)
        await self.find("#text").press("Enter")
        await expect(self.find(".turn .asked .text").last).to_have_text(text)

    async def answered(self, model: str | None = None) -> None:
        """Wait until a model has answered the last turn, the last model by default."""
        card = self.find(".turn:last-child .answer").last if model is None else self.answer(model)
        await expect(card.locator(".note")).to_contain_text("tokens in")
        await expect(self.find("#stop")).to_be_hidden()

    def answer(self, model: str) -> Locator:
        return self.page.get_by_role("article", name=f"Answer of {model}", exact=True).last

    async def columns(self) -> list[str]:
        return await self.find(".turn:last-child .answer h3").all_inner_texts()


async def chat_with(browser: Browser, server: Server, query: str = "", **options: Any) -> Chat:
    context = await browser.new_context(**options)
    chat = Chat(await context.new_page())
    await chat.opens(f"{server.url}/chat{query}")
    return chat


# --- with the LLM service ----------------------------------------------------------------------


async def test_answers_come_piece_by_piece_and_the_next_question_has_them_with_it(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm)
    await chat.set(max_tokens="40", temperature="0", system="Be brief.")
    await chat.ask("<b>first</b>")
    await chat.answered()
    first = await chat.find(".answer .text").inner_text()
    await expect(chat.find(".answer .note")).to_have_text(
        re.compile(r"^40 tokens in [\d.]+ s, cut off at the most tokens$")
    )
    await chat.find("#text").fill("two")
    await chat.find("#text").press("Shift+Enter")
    await chat.find("#text").press_sequentially("lines")
    async with chat.page.expect_request("**/v1/chat/completions") as asked:
        await chat.find("#text").press("Enter")
    sent = json.loads((await asked.value).post_data or "")
    assert sent["temperature"] == 0
    assert sent["max_tokens"] == 40
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    texts = [message["content"] for message in sent["messages"]]
    assert texts[:2] == ["Be brief.", "<b>first</b>"]
    assert texts[2].split() == first.split()
    assert texts[3] == "two\nlines"
    await chat.answered()
    await expect(chat.find(".thumb:visible")).to_have_count(0)
    await chat.page.context.close()


async def test_stop_ends_the_request_itself_and_what_came_stays(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm)
    await chat.ask("go on for ever")
    text = chat.find(".answer .text")
    await expect(text).to_have_text(BEGUN)
    before = len(llm.log("request"))
    await chat.find("#stop").click()
    await expect(chat.find(".answer .note")).to_have_text("Stopped")
    kept = await text.inner_text()

    await eventually(lambda: any(one["status"] == 499 for one in llm.log("request")[before:]))
    assert await text.inner_text() == kept
    await chat.set(max_tokens="5")
    await chat.find(".answer .again").click()
    await chat.answered()
    await expect(chat.find(".turn")).to_have_count(1)
    await chat.find(".edit").click()
    await expect(chat.find("#text")).to_have_value("go on for ever")
    await expect(chat.find(".turn")).to_have_count(0)
    await chat.page.context.close()


async def test_what_is_typed_and_said_survives_a_reload_until_a_new_conversation(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm)
    await chat.set(max_tokens="8", system="Be kind.")
    await chat.ask("remember this")
    await chat.answered()
    said = await chat.find(".answer .text").inner_text()
    await chat.find("#text").fill("half a thou")
    await chat.page.reload()
    await expect(chat.find("#state")).to_have_text("ready")
    await expect(chat.find("#text")).to_have_value("half a thou")
    await expect(chat.find("#system")).to_have_value("Be kind.")
    await expect(chat.find("#max_tokens")).to_have_value("8")
    await expect(chat.find(".asked .text")).to_have_text("remember this")
    assert await chat.find(".answer .text").inner_text() == said

    await chat.set(max_tokens="")
    await chat.ask("another")
    await expect(chat.find(".turn:last-child .answer .text")).to_have_text(BEGUN)
    await chat.page.reload()
    await expect(chat.find(".turn:last-child .fault")).to_contain_text("the page was left")
    await expect(chat.find(".turn:last-child .answer .text")).to_have_text(BEGUN)

    await chat.find("#renew").click()
    await expect(chat.find(".turn")).to_have_count(0)
    await chat.page.reload()
    await expect(chat.find("#state")).to_have_text("ready")
    await expect(chat.find("#empty")).to_be_visible()
    await expect(chat.find("#text")).to_have_value("")
    await chat.page.context.close()


async def test_what_a_model_writes_is_shown_as_it_is(llm: Server, browser: Browser) -> None:
    chat = await chat_with(browser, llm)
    markup = "<img src=x onerror=alert(1)> **bold** <script>alert(2)</script>"
    turn = {"text": markup, "answers": {"endless": {"state": "done", "text": markup, "id": "x"}}}
    kept = json.dumps({"models": ["endless"], "turns": [turn], "draft": "", "settings": {}})
    await chat.page.add_init_script(f"sessionStorage.setItem('chat /chat', {json.dumps(kept)})")
    await chat.page.reload()
    await expect(chat.find(".answer .text")).to_have_text(markup)
    await expect(chat.find(".asked .text")).to_have_text(markup)
    assert await chat.find("#log img, #log script").count() == 0
    await chat.page.context.close()


async def test_the_next_request_can_be_run_as_a_command_and_as_a_program(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm)
    await chat.set(max_tokens="12", temperature="0", system=AWKWARD)
    await chat.ask("hello")
    await chat.answered()
    await chat.find("#text").fill(AWKWARD)
    await chat.find("#as-code").click()
    command, program = [await chat.find(f"#{name}").text_content() for name in ("curl", "python")]
    assert command
    assert program
    await chat.page.get_by_role("button", name="Close").last.click()
    await chat.find("#text").press("Enter")
    await expect(chat.find(".turn")).to_have_count(2)
    await chat.answered()
    text = await chat.find(".turn:last-child .answer .text").text_content()
    assert text

    ran = await output_of("bash", "-c", command)
    assert "".join(pieces(ran)) == text
    assert await output_of(sys.executable, "-c", program) == text + "\n"
    await chat.page.context.close()


def pieces(events: str) -> list[str]:
    """Return the texts in the events of a stream."""
    lines = [line.removeprefix("data: ") for line in events.splitlines() if "data: {" in line]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    return [choice["delta"].get("content") or "" for choice in choices]


async def output_of(*command: str) -> str:
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


async def test_numbers_beyond_the_bounds_of_the_api_are_not_sent(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm)
    described = llm.get("/openapi.json").json()["paths"]["/v1/chat/completions"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    temperature, _ = schema["properties"]["temperature"]["anyOf"]
    field = chat.find("#temperature")
    await expect(field).to_have_attribute("max", str(temperature["maximum"]))
    await expect(chat.find("#max_tokens")).to_have_attribute("min", "1")
    await chat.set(temperature=str(temperature["maximum"] + 1))
    await chat.find("#panel > summary").click()
    await chat.find("#text").fill("hello")
    await chat.find("#text").press("Enter")
    await expect(field).to_be_focused()
    await expect(chat.find("#text")).to_have_value("hello")
    await expect(chat.find(".turn")).to_have_count(0)
    await chat.page.context.close()


async def test_half_a_character_is_asked_as_what_stands_for_it(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm)
    await chat.set(max_tokens="5")
    await chat.find("#text").evaluate("field => { field.value = 'a\\ud800b'; }")
    await chat.find("#text").press("Enter")
    await expect(chat.find(".turn .asked .text").last).to_have_text("a\ufffdb")
    await chat.answered()


async def test_a_refusal_says_what_to_do_and_the_turn_can_be_asked_again(
    llm: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, llm, "?model=nobody")
    await expect(chat.find("#models")).to_contain_text("nobody not here")
    await chat.set(max_tokens="4")
    await chat.ask("hello")
    await expect(chat.answer("nobody").locator(".fault")).to_contain_text(
        "There is no model 'nobody' here, but endless. Choose another one"
    )
    await chat.answered("endless")
    await expect(chat.answer("nobody").locator(".again")).to_be_visible()
    await chat.ask("long " * ENDLESS)
    await expect(chat.answer("endless").locator(".fault")).to_contain_text(
        re.compile(r"maximum context length is \d+ tokens.*Begin a new conversation")
    )
    await chat.find(".edit:visible").click()
    await expect(chat.find("#text")).to_have_value(("long " * ENDLESS).strip())
    await chat.page.context.close()


async def test_a_full_service_is_asked_again_when_it_says_so(llm: Server, browser: Browser) -> None:
    others = [await chat_with(browser, llm) for _ in range(MOST_IN_FLIGHT)]
    for other in others:
        await other.ask("keep it busy")
        await expect(other.find(".answer .text")).to_have_text(BEGUN)
    chat = await chat_with(browser, llm)
    await chat.set(max_tokens="4")
    await chat.ask("hello")
    fault = chat.find(".answer .fault")
    await expect(fault).to_contain_text(re.compile(r"places are taken.*Ask again in \d+ s\."))
    for other in others:
        await other.find("#stop").click()
    await eventually(lambda: llm.get("/health/ready").json()["state"] == "ready")
    await chat.find(".again").click()
    await chat.answered()
    await expect(chat.find(".turn")).to_have_count(1)
    for one in (chat, *others):
        await one.page.context.close()


async def test_a_stream_that_breaks_off_keeps_its_text_and_goes_on_with_the_service(
    endless: Path, browser: Browser
) -> None:
    port = free_port()
    with serving(endless, port, FLASK_LLM_API_KEYS="first") as server:
        key = {"Authorization": "Bearer first"}
        chat = await chat_with(browser, server, extra_http_headers=key)
        await chat.ask("go on for ever")
        await expect(chat.find(".answer .text")).to_have_text(BEGUN)
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        server.process.kill()
        fault = chat.find(".answer .fault")
        await expect(fault).to_have_text("The answer broke off: the connection was lost.")
        await expect(chat.find(".answer .text")).to_have_text(BEGUN)
    await chat.set(max_tokens="4")
    await chat.find(".again").click()
    await expect(fault).to_contain_text("The service cannot be reached. Nothing is lost")
    await expect(chat.find("#state")).to_have_text("unreachable")
    with serving(endless, port, FLASK_LLM_API_KEYS="second"):
        await chat.find(".again").click()
        await expect(fault).to_contain_text("does not accept this key any more")
        await chat.page.context.set_extra_http_headers({"Authorization": "Bearer second"})
        await chat.find(".again").click()
        await chat.answered()
        await expect(chat.find(".asked .text")).to_have_text("go on for ever")
        await expect(fault).to_be_hidden()
    await chat.page.context.close()


# --- with the trainer --------------------------------------------------------------------------

RUN = "harbour"
TUNED = f"{RUN}-model"
BASE = "small"


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    save_small_llm(tmp_path / "models" / BASE)
    trainer = Trainer(
        tmp_path / "service",
        MODELS_PATH=str(tmp_path / "models"),
        TRAINER_WORKFLOW_POSITIONAL_ARGS=json.dumps([BASE]),
    )
    for number, name in enumerate((TUNED, "other", "third")):
        save_adapter(tmp_path / "models" / BASE, trainer.output / name, seed=number)
    (trainer.output / TUNED / ".job").write_text(RUN)
    return trainer


async def ask_beside_the_base(open_dashboard: OpenDashboard, jobs: Jobs) -> tuple[Dashboard, Chat]:
    """Go from the dashboard of a run that has ended to a conversation with its model."""
    await jobs.start(RUN)
    await jobs.end(RUN, JobState.SUCCEEDED)
    dashboard = await open_dashboard()
    await dashboard.find("#chat").click()
    chat = Chat(dashboard.page)
    await expect(chat.find("#state")).to_have_text("ready")
    await chat.set(max_tokens="12")
    await chat.ask("When does the harbour open?")
    await chat.answered()
    return dashboard, chat


@pytest.mark.usefixtures("service")
async def test_a_tuned_model_answers_beside_its_base_and_others_join_and_leave(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    _, chat = await ask_beside_the_base(open_dashboard, jobs)
    assert await chat.columns() == [BASE, TUNED]
    left, right = [await box(chat.answer(name)) for name in (BASE, TUNED)]
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    said = await chat.answer(TUNED).locator(".text").inner_text()
    assert said != await chat.answer(BASE).locator(".text").inner_text()

    await chat.find("#more-models").select_option("other")
    await chat.find("#add").click()
    assert await chat.columns() == [BASE, TUNED, "other"]
    await expect(chat.find("#add")).to_be_hidden()
    await expect(chat.answer("other")).to_contain_text("Not asked yet")
    await chat.answer("other").get_by_role("button", name="Ask it").click()
    await chat.answered()
    await chat.page.get_by_role("button", name=f"Remove {BASE}").click()
    assert await chat.columns() == [TUNED, "other"]
    await chat.page.reload()
    await expect(chat.find("#state")).to_have_text("ready")
    assert await chat.columns() == [TUNED, "other"]
    assert await chat.answer(TUNED).locator(".text").inner_text() == said

    async with chat.page.expect_request(lambda one: TUNED in (one.post_data or "")) as asked:
        await chat.ask("And on Sundays?")
    messages = json.loads((await asked.value).post_data or "")["messages"]
    assert messages[1]["content"].split() == said.split()
    await chat.answered()
    await chat.find("#more-models").select_option("third")
    await chat.find("#add").click()
    await chat.answer("third").get_by_role("button", name="Ask it").click()
    await chat.answered("third")
    await expect(chat.find(".turn:first-child .answer .note").last).to_contain_text("tokens in")
    await chat.page.get_by_role("button", name="Remove third").click()
    await chat.page.set_viewport_size({"width": 390, "height": 800})
    above, below = [await box(chat.answer(name)) for name in (TUNED, "other")]
    assert above["y"] + above["height"] < below["y"]
    assert await chat.page.evaluate("document.documentElement.scrollWidth") == 390


async def box(node: Locator) -> Any:
    found = await node.bounding_box()
    assert found is not None
    return found


async def test_what_somebody_thinks_of_an_answer_is_kept_with_the_run(
    service: Server, open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    dashboard, chat = await ask_beside_the_base(open_dashboard, jobs)
    await expect(chat.answer(BASE).locator(".thumb.up")).to_be_hidden()
    good, bad = (chat.answer(TUNED).locator(f".thumb.{name}") for name in ("up", "down"))
    await good.click()
    await expect(good).to_have_attribute("aria-pressed", "true")
    assert service.get(f"/jobs/{RUN}/feedback").json() == {"up": 1, "down": 0}
    await bad.click()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await expect(good).to_have_attribute("aria-pressed", "false")

    await dashboard.page.get_by_role("link", name="Runs").click()
    await dashboard.shows("#feedback", "Rated answers: 0 good, 1 bad")
    lines = service.get(f"/jobs/{RUN}/files/{FEEDBACK_FILE}").text.splitlines()
    assert [json.loads(line)["rating"] for line in lines] == ["up", "down"]
    assert json.loads(lines[1])["messages"][-1]["content"] == "When does the harbour open?"
    assert "When does the harbour" not in service.stdout + service.stderr


@pytest.mark.usefixtures("service")
async def test_the_page_has_no_serious_fault_of_accessibility_and_fits_all_screens(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    page = await open_dashboard(path="/chat")
    chat = Chat(page.page)
    await expect(chat.find("#state")).to_have_text("ready")
    assert await faults_by_day_and_night(page) == []
    await chat.opens(f"{page.url}/chat?model={BASE}&model={TUNED}&model=nobody")
    await chat.set(max_tokens="12", top_p="1")
    await chat.ask("When does the harbour open?")
    await expect(chat.answer("nobody").locator(".fault")).to_be_visible()
    await chat.answered(TUNED)
    page.excuse("status of 404")
    assert await faults_by_day_and_night(page) == []
    await expect(chat.find("#log")).to_have_attribute("role", "log")
    await expect(chat.find('#log [aria-hidden="true"]')).to_have_count(0)
    await chat.find("#as-code").click()
    assert await faults_by_day_and_night(page) == []
    await chat.page.keyboard.press("Escape")
    for width in (390, 1280, 2560):
        await chat.page.set_viewport_size({"width": width, "height": 900})
        assert await chat.page.evaluate("document.documentElement.scrollWidth") == width


async def faults_by_day_and_night(page: Dashboard) -> list[Any]:
    found = []
    for scheme in ("light", "dark"):
        await page.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found += await serious_faults(page.page)
    return found
