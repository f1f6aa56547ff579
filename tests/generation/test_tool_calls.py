"""Calls of tools are told from the text around them, however an answer is cut into pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.generation.tool_calls import CallPart, CallReader
from ml.generation.tool_format import ToolUse, tool_format_of
from ml.generation.tools import Tool, ToolWish

HERMES = "{% if tools %}<tool_call>{% endif %}"
LLAMA = '{% if tools %}{"name": function name, "parameters": dictionary} ipython{% endif %}'
TOOLS = [
    Tool.model_validate({"type": "function", "function": {"name": name, "parameters": {}}})
    for name in ("a", "ab", "get_weather")
]


def use_of(template: str | None, **wish: Any) -> ToolUse:
    use = tool_format_of(template).use(ToolWish(TOOLS, **wish))
    assert use is not None
    return use


def written(use: ToolUse, name: str, arguments: Any) -> str:
    """Return a call as the model writes it."""
    tag = use.form.tags[use.names.index(name)]
    return tag.begin + json.dumps(arguments) + tag.end


def read(use: ToolUse, pieces: list[str]) -> list[Any]:
    """Return the texts and the calls in an answer, in order."""
    reader, found = CallReader(use), list[Any]()
    heard = [part for piece in pieces for part in reader.feed(piece)] + reader.rest()
    for part in heard:
        if isinstance(part, CallPart) and part.name is not None:
            assert part.index == sum(isinstance(one, tuple) for one in found)
            found.append((part.name, ""))
        elif isinstance(part, CallPart):
            name, arguments = found[-1]
            found[-1] = (name, arguments + part.arguments)
        elif found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return [(one[0], json.loads(one[1])) if isinstance(one, tuple) else one for one in found]


def cuts(text: str) -> list[list[str]]:
    return [[text], list(text), *([text[:n], text[n:]] for n in range(1, len(text)))]


@pytest.mark.parametrize("template", [HERMES, LLAMA, None])
def test_a_call_is_read_wherever_the_answer_is_cut(template: str | None) -> None:
    use = use_of(template)
    arguments = {"city": 'Paris } "</tool_call>" {', "days": [1, {"x": "\\"}]}
    text = "I look. \n" + written(use, "get_weather", arguments)
    for pieces in cuts(text):
        assert read(use, pieces) == ["I look.", ("get_weather", arguments)], pieces


def test_several_calls_and_the_text_between_them_keep_their_order() -> None:
    use = use_of(HERMES)
    calls = [written(use, name, {"n": n}) for n, name in enumerate(["a", "ab", "get_weather"])]
    text = f"{calls[0]}\n{calls[1]}\nand then\n{calls[2]}\n"
    expected = [("a", {"n": 0}), ("ab", {"n": 1}), "and then", ("get_weather", {"n": 2})]
    for pieces in cuts(text):
        assert read(use, pieces) == expected, pieces


@pytest.mark.parametrize(
    "text", ["", "Hello", " a < b ", "<tool_", "<tool_call", "x <tool_call> y", "x\n<tool_call>\n"]
)
def test_an_answer_without_a_call_is_its_text(text: str) -> None:
    for pieces in cuts(text):
        assert "".join(read(use_of(HERMES), pieces)) == text, pieces


def test_a_call_that_is_cut_off_has_the_arguments_so_far() -> None:
    use = use_of(HERMES)
    reader = CallReader(use)
    tag = use.form.tags[0]
    heard = reader.feed(f'{tag.begin}{{"city": "Par') + reader.rest()
    assert heard == [CallPart(0, "a", ""), CallPart(0, None, '{"city": "Par')]


def test_the_beginning_of_a_call_that_has_to_come_is_no_text() -> None:
    for text in ("<tool", "<tool_call>\n{"):
        assert read(use_of(HERMES, choice="required"), [text]) == []
        assert read(use_of(HERMES), [text]) == [text]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    arguments=st.dictionaries(st.text(max_size=8), VALUES, max_size=3),
    template=st.sampled_from([HERMES, LLAMA]),
    size=st.integers(1, 7),
)
def test_any_arguments_are_read_as_they_were_written(
    arguments: dict[str, Any], template: str, size: int
) -> None:
    use = use_of(template)
    text = written(use, "ab", arguments)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert read(use, pieces) == [("ab", arguments)]
