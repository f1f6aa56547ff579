"""Tools at OpenAI's addresses: what is called fits its schema, whole and as a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serving import test_responses as responses
from tests.serving.conftest import MakeLLM
from tests.serving.test_openai import CHAT, answer, events, fault

CITIES = ["Paris", "Rome"]
WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": CITIES}, "days": {"type": "boolean"}},
        "required": ["city", "days"],
    },
}
CLOCK = {"name": "get_time", "description": "Tells the time"}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, CLOCK)]
FLAT = [{"type": "function", **function} for function in (WEATHER, CLOCK)]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
#: Each sampled differently by a model with random weights.
SAMPLED = {"temperature": 1, "max_tokens": 120}


def checked(call: dict[str, Any]) -> str:
    """Return the name of a called function, once its arguments fit their schema."""
    function = call["function"]
    arguments = json.loads(function["arguments"])
    if function["name"] == "get_time":
        assert arguments == {}
    else:
        assert function["name"] == "get_weather"
        assert arguments.keys() == {"city", "days"}
        assert arguments["city"] in CITIES
        assert isinstance(arguments["days"], bool)
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    return str(function["name"])


async def test_an_answer_that_has_to_call_calls_and_fits(make_llm: MakeLLM) -> None:
    app = await make_llm()
    called = set()
    for seed in range(6):
        document = await answer(
            app,
            tools=TOOLS,
            tool_choice="required",
            parallel_tool_calls=False,
            seed=seed,
            **SAMPLED,
        )
        [choice] = document["choices"]
        assert choice["finish_reason"] == "tool_calls"
        message = choice["message"]
        assert (message["role"], message["content"]) == ("assistant", None)
        [call] = message["tool_calls"]
        called.add(checked(call))
    assert called == {"get_weather", "get_time"}


async def test_a_named_function_is_the_one_that_is_called(make_llm: MakeLLM) -> None:
    app = await make_llm()
    for seed in range(3):
        document = await answer(app, tools=TOOLS, tool_choice=NAMED, seed=seed, **SAMPLED)
        [call] = document["choices"][0]["message"]["tool_calls"]
        assert checked(call) == "get_weather"


async def test_a_stream_tells_the_name_first_and_then_the_arguments_in_pieces(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    wish = {"tools": TOOLS, "tool_choice": NAMED, "seed": 3, **SAMPLED}
    [whole] = (await answer(app, **wish))["choices"]
    *chunks, _ = await events(app, **wish)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    parts = [part for delta in deltas for part in delta.get("tool_calls", ())]
    first, *others = parts
    assert (first["index"], first["type"]) == (0, "function")
    assert first["id"].startswith("call_")
    assert first["function"] == {"name": "get_weather", "arguments": ""}
    assert len(others) > 2
    assert all(set(part) == {"index", "function"} for part in others)
    arguments = "".join(part["function"]["arguments"] for part in others)
    [call] = whole["message"]["tool_calls"]
    assert arguments == call["function"]["arguments"]
    assert not any(delta.get("content") for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_answer_may_leave_tools_alone_and_with_none_it_knows_of_none(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    plain = await answer(app)
    [free] = (await answer(app, tools=TOOLS))["choices"]
    assert free["finish_reason"] == "length"
    assert "tool_calls" not in free["message"]
    assert free["message"]["content"]
    none = await answer(app, tools=TOOLS, tool_choice="none")
    assert none["choices"] == plain["choices"]
    assert none["usage"] == plain["usage"]


async def test_a_cut_off_call_has_the_arguments_so_far(make_llm: MakeLLM) -> None:
    wish = {"tools": TOOLS, "tool_choice": NAMED, "max_tokens": 30}
    [choice] = (await answer(await make_llm(), **wish))["choices"]
    assert choice["finish_reason"] == "length"
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    with pytest.raises(ValueError, match=r".*"):
        json.loads(call["function"]["arguments"])


async def test_a_call_and_its_result_can_be_sent_back(make_llm: MakeLLM) -> None:
    app = await make_llm()
    wish = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, **SAMPLED}
    user = {"role": "user", "content": "How is the weather?"}
    [choice] = (await answer(app, messages=[user], **wish))["choices"]
    [call] = choice["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "Sun"}
    again = await answer(app, messages=[user, choice["message"], result], tools=TOOLS)
    shorter = await answer(app, messages=[user], tools=TOOLS)
    assert again["usage"]["prompt_tokens"] > shorter["usage"]["prompt_tokens"]


async def test_responses_have_calls_as_items_whole_and_as_events(make_llm: MakeLLM) -> None:
    app = await make_llm()
    wish = {
        "tools": FLAT,
        "tool_choice": {"type": "function", "name": "get_weather"},
        "seed": 3,
        "temperature": 1,
        "max_output_tokens": 120,
    }
    document = await responses.answer(app, **wish)
    [item] = document["output"]
    assert (document["status"], item["status"]) == ("completed", "completed")
    assert item["type"] == "function_call"
    function = {"name": item["name"], "arguments": item["arguments"]}
    assert checked({"type": "function", "id": item["call_id"], "function": function})
    told = await responses.events(app, **wish)
    kinds = [event["type"].removeprefix("response.") for event in told]
    deltas = kinds.count("function_call_arguments.delta")
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        *["function_call_arguments.delta"] * deltas,
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event.get("delta", "") for event in told) == item["arguments"]
    assert told[-3]["arguments"] == item["arguments"]
    assert told[2]["item"]["arguments"] == ""
    result = {"type": "function_call_output", "call_id": item["call_id"], "output": "Sun"}
    question = {"role": "user", "content": "How is the weather?"}
    await responses.answer(app, input=[question, item, result], tools=FLAT)


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function}]}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


CALL = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
#: Fields at fault, with what the message begins with.
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"tools": 7}, "tools: "),
    ({"tools": [{"type": "web_search"}]}, "tools.0"),
    ({"tools": [{"type": "function"}]}, "tools.0.function: "),
    ({"tools": TOOLS * 65}, "tools: "),
    ({"tools": [TOOLS[0], TOOLS[0]]}, "tools: two of them"),
    (tool(), "tools.0.function.name: "),
    (tool(name="a b"), "tools.0.function.name: "),
    (tool(name="a" * 65), "tools.0.function.name: "),
    (tool(name="a", parameters=[]), "tools.0.function.parameters: "),
    (tool(name="a", parameters={"type": "array"}), "tools.0.function.parameters: "),
    (tool(name="a", parameters=nested(20)), "tools.0.function.parameters: a schema may have"),
    (
        tool(name="a", parameters={"description": "x" * 40_000}),
        "tools.0.function.parameters: a schema may have",
    ),
    (tool(name="a", parameters={"maxProperties": 2**64}), "tools.0.function.parameters: "),
    (
        tool(name="a", parameters={"properties": {"b": {"type": "colour"}}}),
        "tools.0.function.parameters: properties.b.type: ",
    ),
    (tool(name="a", parameters={"properties": {"b": {"pattern": "("}}}), "tools: "),
    ({"tool_choice": "required"}, "tool_choice: "),
    ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice: "),
    ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice: "),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "b"}}},
        "tool_choice: ",
    ),
    ({"tools": TOOLS, "parallel_tool_calls": "perhaps"}, "parallel_tool_calls: "),
    ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "tools: "),
    ({"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]}, "messages.0.tool_ca"),
    ({"messages": [{"role": "assistant"}]}, "messages.0.content: "),
    ({"messages": [{"role": "assistant", "tool_calls": []}]}, "messages.0.content: "),
    ({"messages": [{"role": "tool", "tool_call_id": "1"}]}, "messages.0.content: "),
    *(
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{**CALL, "function": {"name": "a", "arguments": text}}],
                    }
                ]
            },
            "messages.0.tool_calls.0.function.arguments: ",
        )
        for text in ("[]", "{", "[" * 100_000, "7", '{"a": NaN}', r'{"a": "\ud800"}')
    ),
    ({"functions": [WEATHER]}, "functions: not supported"),
]


async def test_a_wish_for_tools_that_is_wrong_is_refused_by_the_fields_name(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    told = [await fault(app, CHAT, **fields) for fields, _ in FAULTS]
    assert [
        (str(fields)[:200], message)
        for message, (fields, begin) in zip(told, FAULTS, strict=True)
        if not message.startswith(begin)
    ] == []
