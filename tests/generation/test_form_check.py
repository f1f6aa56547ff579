"""Forms are tried one after the other, in a process that may end over one of them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ml.errors import InvalidInput, NotReady, Overloaded
from ml.generation.answer_form import JsonAnswer, RegexAnswer, Tag, TaggedAnswer
from ml.generation.form_check import FormCheck
from ml.generation.tools import MOST_TOOLS
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.openvino_model import load_openvino_model

KNOWN = RegexAnswer("yes|no")
#: Keeps the process until its time is up.
SLOW = RegexAnswer("(((a{1,1000}){1,1000}){1,1000}){1,1000}")


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    install()
    model = load_openvino_model(EMBEDDED_LLM)
    return {
        "source": str(model.source),
        "vocabulary": model.vocabulary,
        "end_tokens": list(model.end_tokens),
    }


@pytest.fixture
def check(settings: dict[str, Any]) -> Iterator[FormCheck]:
    check = FormCheck(settings)
    check.require_possible(KNOWN)
    yield check
    check.close()


def processes() -> list[int]:
    """Return the processes of this process in which forms are tried."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = path.joinpath("cmdline").read_text()
        except OSError:  # it is gone
            continue
        if parent == os.getpid() and "openvino_forms_process" in command:
            found.append(int(path.name))
    return found


def is_busy(process: int) -> bool:
    """Return whether a process computes."""

    def ticks() -> int:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.05)
    return ticks() > before


def tried(check: FormCheck, form: RegexAnswer) -> str:
    """Return the kind of refusal that a form meets, or "possible"."""
    try:
        check.require_possible(form)
    except (InvalidInput, NotReady, Overloaded) as error:
        return type(error).__name__
    return "possible"


def test_what_was_tried_waits_for_nobody_and_what_is_new_waits_its_turn(check: FormCheck) -> None:
    order: list[str] = []
    [process] = processes()

    def ask(name: str, form: RegexAnswer) -> str:
        told = tried(check, form)
        order.append(name)
        return told

    with ThreadPoolExecutor() as threads:
        slow = threads.submit(ask, "slow", SLOW)
        while not is_busy(process):
            pass
        news = [threads.submit(ask, "new", RegexAnswer("new")) for _ in range(4)]
        assert ask("known", KNOWN) == "possible"
        assert slow.result() == "InvalidInput"
        assert [new.result() for new in news] == ["possible"] * 4
    assert order == ["known", "slow", *["new"] * 4]


def test_more_different_forms_than_may_wait_are_told_to_come_back(check: FormCheck) -> None:
    [process] = processes()
    with ThreadPoolExecutor(61) as threads:
        slow = threads.submit(tried, check, SLOW)
        while not is_busy(process):
            pass
        same = [threads.submit(tried, check, RegexAnswer("same")) for _ in range(30)]
        news = [threads.submit(tried, check, RegexAnswer(f"a{n}")) for n in range(30)]
        told = [new.result() for new in news]
        assert [one.result() for one in same] == ["possible"] * 30
        assert slow.result() == "InvalidInput"
    assert told.count("possible") == 14
    assert told.count("Overloaded") == 16
    assert tried(check, RegexAnswer("after")) == "possible"


def test_a_process_that_was_killed_is_nobodys_fault_and_another_one_goes_on(
    check: FormCheck,
) -> None:
    [process] = processes()
    os.kill(process, signal.SIGKILL)
    assert tried(check, KNOWN) == "possible"
    assert tried(check, RegexAnswer("another")) == "possible"
    [successor] = processes()
    assert successor != process


def test_where_forms_cannot_be_tried_clients_are_told_when_to_come_back(check: FormCheck) -> None:
    ended = threading.Event()

    def kill_all() -> None:
        while not ended.is_set():
            for process in processes():
                with suppress(ProcessLookupError):  # it has been reaped since
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.001)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(NotReady, match="try again") as caught:
            check.require_possible(RegexAnswer("unlucky"))
    finally:
        ended.set()
        killer.join()
    assert caught.value.retry_after_seconds
    assert tried(check, RegexAnswer("unlucky")) == "possible"


def test_a_form_that_takes_too_long_is_told_how_long_it_may_take(check: FormCheck) -> None:
    with pytest.raises(InvalidInput, match=r"more than [0-9.]+ seconds"):
        check.require_possible(SLOW)


def test_as_many_tools_as_a_request_may_have_are_taken(check: FormCheck) -> None:
    kinds = ({"type": "string"}, {"type": "integer"}, {"enum": ["x", "y"]}, {"type": "boolean"})
    fields = {f"field_{number}": kinds[number % 4] for number in range(8)}
    schema = json.dumps({"type": "object", "properties": fields, "required": list(fields)})
    tags = tuple(
        Tag(f'<tool_call>\n{{"name": "tool_{number}", "arguments": ', schema, "}\n</tool_call>")
        for number in range(MOST_TOOLS)
    )
    check.require_possible(TaggedAnswer("<tool_call>", tags, required=True))


def test_a_process_that_keeps_too_much_gives_way_to_another_one(settings: dict[str, Any]) -> None:
    """The library forgets no form: the first keeps 6 MiB, each of these 1 to 2 more."""
    check = FormCheck(settings, most_kept_bytes=12 << 20)
    seen = set()
    try:
        for number in range(20):
            schema = {"type": "string", "minLength": 100 + number, "maxLength": 200 + number}
            check.require_possible(JsonAnswer(json.dumps(schema)))
            seen |= set(processes())
    finally:
        check.close()
    assert 1 < len(seen) < 20
