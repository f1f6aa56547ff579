"""`/v1/responses`: its documents and events are those of OpenAI's own types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.serving.conftest import MakeLLM
from tests.serving.test_openai import CHAT
from tests.serving.test_openai import answer as chat_answer
from tests.support.requests import JSON
from tests.support.workflows import BreaksOff

PATH = "/v1/responses"
QUESTION = "What is the capital of France?"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


async def ask(app: Any, **fields: Any) -> Any:
    body = json.dumps({"input": QUESTION, **fields})
    return await app.test_client().post(PATH, data=body, headers=JSON)


async def answer(app: Any, **fields: Any) -> dict[str, Any]:
    response = await ask(app, **fields)
    text = await response.get_data()
    assert response.status_code == 200, text
    document: dict[str, Any] = json.loads(text)
    Response.model_validate(document, strict=False)
    return document


async def events(app: Any, **fields: Any) -> list[dict[str, Any]]:
    response = await ask(app, stream=True, **fields)
    assert response.status_code == 200
    found = []
    for block in (await response.get_data()).decode().strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        EVENTS.validate_python(found[-1])
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def text_of(document: dict[str, Any]) -> str:
    [item] = document["output"]
    [part] = item["content"]
    return str(part["text"])


async def test_a_response_has_the_text_of_the_same_chat_and_its_numbers(make_llm: MakeLLM) -> None:
    app = await make_llm()
    chat = await chat_answer(app, CHAT)
    document = await answer(app)
    assert text_of(document) == chat["choices"][0]["message"]["content"]
    assert document["model"] == "tiny"
    assert (document["status"], document["store"]) == ("incomplete", False)
    assert document["incomplete_details"] == {"reason": "max_output_tokens"}
    assert document["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert document["usage"]["output_tokens"] == 8
    ended = await answer(app, stop=[text_of(document)[-2:]])
    assert (ended["status"], ended["incomplete_details"]) == ("completed", None)


async def test_instructions_and_turns_are_read_as_a_chat_reads_them(make_llm: MakeLLM) -> None:
    app = await make_llm()
    turns = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And of Italy?"},
    ]
    chat = await chat_answer(app, messages=[{"role": "system", "content": "Be brief."}, *turns])
    parts = [{"type": "input_text", "text": QUESTION}]
    said = [{"type": "output_text", "text": "Paris", "annotations": [], "logprobs": []}]
    items = [
        {"type": "message", "role": "user", "content": parts},
        {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
        | {"content": said},
        turns[2],
    ]
    document = await answer(app, instructions="Be brief.", input=items)
    assert document["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert text_of(document) == chat["choices"][0]["message"]["content"]


async def test_a_stream_tells_of_each_part_as_it_begins_grows_and_ends(make_llm: MakeLLM) -> None:
    app = await make_llm()
    whole = await answer(app)
    told = await events(app)
    kinds = [event["type"].removeprefix("response.") for event in told]
    deltas = kinds.count("output_text.delta")
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * deltas,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    text = "".join(event["delta"] for event in told if "delta" in event)
    assert text == text_of(whole) == told[-4]["text"] == text_of(told[-1]["response"])
    assert told[0]["response"]["output"] == []
    assert told[2]["item"]["content"] == []
    assert told[3]["part"]["text"] == ""
    assert {event["item_id"] for event in told if "item_id" in event} == {told[2]["item"]["id"]}
    assert told[-1]["response"]["usage"] == whole["usage"]


async def test_probabilities_come_with_the_text_whole_and_as_a_stream(make_llm: MakeLLM) -> None:
    app = await make_llm()
    wish = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    [item] = (await answer(app, **wish))["output"]
    [part] = item["content"]
    assert "".join(token["token"] for token in part["logprobs"]) == part["text"]
    assert all(len(token["top_logprobs"]) == 2 for token in part["logprobs"])
    told = [event for event in await events(app, **wish) if "delta" in event]
    assert [token for event in told for token in event["logprobs"]] == part["logprobs"]


async def test_a_failure_in_the_middle_is_an_event_that_openais_client_knows(
    make_llm: MakeLLM,
) -> None:
    response = await ask(await make_llm(BreaksOff), stream=True)
    *_, last = (await response.get_data()).decode().strip().split("\n\n")
    name, data = last.split("\n")
    assert name == "event: error"
    document = json.loads(data.removeprefix("data: "))
    assert (document["type"], document["code"]) == ("error", "out_of_memory")
    assert document["error"]["message"] == document["message"]


TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": []}, "input: "),
        ({"input": 7}, "input: "),
        ({"input": None}, "input: "),
        ({"input": [{"role": "user"}]}, "input.0.message.content: "),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0: only message"),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "a", "arguments": "["}]}, ""),
        ({"previous_response_id": "resp_1"}, "previous_response_id: not supported"),
        ({"conversation": "conv_1"}, "conversation: not supported"),
        ({"background": True}, "background: not supported"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tools": [{**TOOL, "parameters": {"type": "array"}}]}, "tools.0.parameters: "),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice: "),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "b"}}, "tool_choice: "),
        ({"tool_choice": "required"}, "tool_choice: "),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type: "),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens: "),
        ({"top_logprobs": 21}, "top_logprobs: "),
        ({"instruction": "x"}, "no such field: 'instruction'; did you mean 'instructions'?"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_field(
    make_llm: MakeLLM, fields: dict[str, Any], message: str
) -> None:
    response = await ask(await make_llm(), **fields)
    assert response.status_code == 400
    error = json.loads(await response.get_data())["error"]
    assert error["message"].startswith(message), error
    assert error["type"] == "invalid_request_error"
