"""What a model is told of tools, and which calls it may write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ml.errors import InvalidInput
from ml.generation.tool_format import tool_format_of
from ml.generation.tools import Tool, ToolChoice, ToolWish

HERMES = "{% if tools %}<tool_call>{% endif %}"
CODER = "{% if tools %}<tool_call><function={% endif %}"
LLAMA = '{% if tools %}{"name": function name, "parameters": dictionary} ipython{% endif %}'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str, parameters: Any = CITY) -> Tool:
    function = {"name": name, "description": f"It {name}s", "parameters": parameters}
    return Tool.model_validate({"type": "function", "function": function})


def wish(choice: Any = None, **how: Any) -> ToolWish:
    return ToolWish([tool("look"), tool("listen")], choice, **how)


@pytest.mark.parametrize(
    ("template", "native", "begin"),
    [
        (HERMES, True, '<tool_call>\n{"name": "look", "arguments": '),
        (LLAMA, True, '{"name": "look", "parameters": '),
        (CODER, False, '<tool_call>\n{"name": "look", "arguments": '),
        ("{{ messages }}", False, '<tool_call>\n{"name": "look", "arguments": '),
        (None, False, '<tool_call>\n{"name": "look", "arguments": '),
        ({"default": "{{ messages }}", "tool_use": HERMES}, True, '<tool_call>\n{"name": "look"'),
    ],
)
def test_the_chat_template_decides_how_calls_are_written(
    template: Any, native: bool, begin: str
) -> None:
    form = tool_format_of(template)
    use = form.use(wish())
    assert use is not None
    assert form.native == native
    assert use.form.tags[0].begin.startswith(begin)
    assert all(tag.begin.startswith(use.form.trigger) for tag in use.form.tags)
    assert use.names == ("look", "listen")


@pytest.mark.parametrize(
    ("choice", "parallel", "names", "required", "several"),
    [
        (None, None, ("look", "listen"), False, True),
        ("auto", False, ("look", "listen"), False, False),
        ("required", None, ("look", "listen"), True, True),
        ({"type": "function", "function": {"name": "listen"}}, True, ("listen",), True, False),
    ],
)
def test_the_choice_decides_which_calls_an_answer_may_have(
    choice: Any, parallel: bool | None, names: tuple[str, ...], required: bool, several: bool
) -> None:
    from pydantic import TypeAdapter

    read: Any = None if choice is None else TypeAdapter(ToolChoice).validate_python(choice)
    use = tool_format_of(HERMES).use(wish(read, parallel=parallel))
    assert use is not None
    assert (use.names, use.form.required, use.form.several) == (names, required, several)


def test_a_format_that_has_no_place_for_several_calls_allows_one() -> None:
    use = tool_format_of(LLAMA).use(wish("required", parallel=True))
    assert use is not None
    assert not use.form.several


def test_without_tools_or_with_none_of_them_nothing_is_told_and_nothing_called() -> None:
    turns = [{"role": "user", "content": "Hello"}]
    for none in (ToolWish(None), ToolWish([]), wish("none")):
        form = tool_format_of(None)
        assert form.use(none) is None
        assert form.messages(turns, none) == turns


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (None, {"type": "object", "additionalProperties": False}),
        ({}, {"type": "object"}),
        ({"properties": {}}, {"type": "object", "additionalProperties": False, "properties": {}}),
        (CITY, {**CITY, "additionalProperties": False}),
        ({**CITY, "additionalProperties": True}, {**CITY, "additionalProperties": True}),
    ],
)
def test_arguments_are_an_object_with_nothing_that_its_schema_does_not_name(
    parameters: Any, schema: Any
) -> None:
    use = tool_format_of(None).use(ToolWish([tool("look", parameters)]))
    assert use is not None
    assert json.loads(use.form.tags[0].schema) == schema


def test_a_model_that_knows_no_tools_is_told_of_them_in_its_system_message() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"city": "ü"}}}
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look twice"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
        {"role": "tool", "content": "sun", "tool_call_id": "2"},
        {"role": "user", "content": "And?"},
    ]
    told = tool_format_of(None).messages(turns, wish())
    assert [turn["role"] for turn in told] == ["system", "user", "assistant", "user", "user"]
    system = told[0]["content"]
    assert system.startswith("Be brief.\n\n")
    described = [json.loads(line) for line in system.splitlines() if line.startswith('{"type"')]
    assert [one["function"]["name"] for one in described] == ["look", "listen"]
    assert described[0]["function"]["parameters"] == CITY
    written = '<tool_call>\n{"name": "look", "arguments": {"city": "ü"}}\n</tool_call>'
    assert told[2]["content"] == f"{written}\n{written}"
    results = [f"<tool_response>\n{text}\n</tool_response>" for text in ("rain", "sun")]
    assert told[3]["content"] == "\n".join(results)
    [first, *_] = tool_format_of(None).messages(turns[1:], wish())
    assert first["role"] == "system"


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        ([tool("look"), tool("look")], None, "tools: "),
        (None, "required", "tool_choice: "),
        ([], "required", "tool_choice: "),
    ],
)
def test_a_wish_that_nothing_can_fulfil_is_refused(tools: Any, choice: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ToolWish(tools, choice)
