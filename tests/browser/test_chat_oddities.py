"""What the chat page makes of empty and hostile answers, of several tabs, and of what was kept."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from playwright.async_api import Browser, expect
from safetensors.torch import load_file, save_file

from tests.browser.axe import serious_faults
from tests.browser.test_chat import BEGUN, ENDLESS, Chat, chat_with, save_endless_llm, serving
from tests.support.processes import Server
from tests.support.tiny_llm import save_tiny_llm

HOSTILE = "\x1b[31mred\x1b[0m \u202egnp.exe <svg onload=alert(1)> \u0000\ufffd {{7*7}} </script>"


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose model finds all tokens as likely, and ends with the first of them."""
    folder = save_tiny_llm(tmp_path_factory.mktemp("models") / "silent")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros_like(weights["lm_head.weight"])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = save_endless_llm(tmp_path_factory.mktemp("models") / "endless")
    with serving(folder) as server:
        yield server


async def test_an_answer_without_text_says_so_and_the_conversation_goes_on(
    silent: Server, browser: Browser
) -> None:
    chat = await chat_with(browser, silent)
    await chat.set(temperature="0")
    for question in ("hello", "are you there"):
        await chat.ask(question)
        note = chat.find(".turn:last-child .answer .note")
        await expect(note).to_contain_text("the model ended its answer without any text")
    await expect(chat.find(".turn")).to_have_count(2)
    await expect(chat.find(".copy:visible")).to_have_count(0)
    assert await serious_faults(chat.page) == []
    await chat.page.context.close()


@pytest.mark.parametrize(
    "kept",
    ["null", "{", "[]", "5", '{"turns": null}', '{"turns": [{}]}', '{"models": 5, "turns": []}'],
)
async def test_what_another_page_has_kept_does_not_keep_this_one_from_working(
    silent: Server, browser: Browser, kept: str
) -> None:
    context = await browser.new_context()
    chat = Chat(await context.new_page())
    await context.add_init_script(
        "if (!sessionStorage.getItem('once')) {"
        f"sessionStorage.setItem('chat /chat', {json.dumps(kept)});"
        "sessionStorage.setItem('once', '1'); }"
    )
    await chat.opens(f"{silent.url}/chat")
    await chat.set(max_tokens="2")
    await chat.ask("hello")
    await expect(chat.find(".answer .note")).to_contain_text("token")
    await context.close()


async def test_hostile_text_is_text_and_tabs_have_conversations_of_their_own(
    endless: Server, browser: Browser
) -> None:
    first = await chat_with(browser, endless)
    alerts: list[str] = []
    first.page.on("dialog", lambda dialog: alerts.append(dialog.message))
    await first.set(max_tokens="6", system=HOSTILE)
    await first.ask(HOSTILE.replace("\x00", ""))
    await first.answered()
    second = Chat(await first.page.context.new_page())
    await second.opens(f"{endless.url}/chat")
    await expect(second.find(".turn")).to_have_count(0)
    await second.set(max_tokens=str(ENDLESS // 2))
    await second.ask("go on for ever")
    await expect(second.find(".answer .text")).to_have_text(BEGUN)
    await first.ask("another")
    await first.answered()
    await expect(first.find(".turn")).to_have_count(2)
    await second.find("#stop").click()
    await expect(second.find(".answer .note")).to_have_text("Stopped")
    await first.page.reload()
    await expect(first.find(".turn")).to_have_count(2)
    assert await first.find("#log svg, #log script").count() == 0
    assert alerts == []
    await first.page.context.close()
