"""Answers that have to have a form, in the words of each API that asks for one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.serving import test_responses as responses
from tests.serving import test_tgi as tgi
from tests.serving.conftest import MakeLLM
from tests.serving.test_openai import CHAT, TEXT, answer, events, fault, text_of
from tests.support.requests import JSON, abi_text

COLOURS = ["red", "green"]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": COLOURS}, "wet": {"type": "boolean"}},
    "required": ["colour", "wet"],
    "additionalProperties": False,
}
STRICT = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA, "strict": True}}
LOOSE = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}}
NUMBER = r"[0-9]{3}-[a-c]+x"
SAMPLED = {"temperature": 1, "max_tokens": 120}


def require_schema(text: str) -> None:
    read = json.loads(text)
    assert read.keys() == {"colour", "wet"}
    assert read["colour"] in COLOURS
    assert isinstance(read["wet"], bool)


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize(
    "wish",
    [
        {"response_format": STRICT},
        {"response_format": LOOSE},
        {"response_format": {"type": "json_object", "value": SCHEMA}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"structured_outputs": {"json": SCHEMA}},
    ],
    ids=lambda wish: next(iter(wish)),
)
async def test_json_fits_its_schema_whoever_asks_for_it(
    make_llm: MakeLLM, path: str, wish: dict[str, Any]
) -> None:
    app = await make_llm()
    for seed in range(3):
        [choice] = (await answer(app, path, seed=seed, **wish, **SAMPLED))["choices"]
        assert choice["finish_reason"] == "stop"
        require_schema(text_of(choice))
    chunks = (await events(app, path, seed=2, **wish, **SAMPLED))[:-1]
    assert "".join(text_of(chunk["choices"][0]) for chunk in chunks) == text_of(choice)


async def test_any_json_object_is_one(make_llm: MakeLLM) -> None:
    app = await make_llm()
    for wish in (
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json_object": True}},
    ):
        [choice] = (await answer(app, **wish, **SAMPLED))["choices"]
        assert text_of(choice).startswith("{")
    text = await answer(app, response_format={"type": "text"})
    assert text["choices"] == (await answer(app))["choices"]


@pytest.mark.parametrize(
    ("wish", "pattern"),
    [
        ({"guided_regex": NUMBER}, NUMBER),
        ({"structured_outputs": {"regex": NUMBER}}, NUMBER),
        ({"guided_choice": ["a.b", "(c"]}, r"a\.b|\(c"),
        ({"structured_outputs": {"choice": ["yes it is", "no"]}}, "yes it is|no"),
    ],
)
async def test_a_text_fits_a_pattern_or_is_one_of_a_choice(
    make_llm: MakeLLM, wish: dict[str, Any], pattern: str
) -> None:
    app = await make_llm()
    for seed in range(3):
        [choice] = (await answer(app, seed=seed, **wish, **SAMPLED))["choices"]
        assert re.fullmatch(pattern, text_of(choice)), text_of(choice)


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "json", "value": SCHEMA},
        {"type": "json", "value": json.dumps(SCHEMA)},
        {"type": "json_schema", "value": {"name": "colour", "schema": SCHEMA}},
    ],
)
async def test_tgis_clients_get_json(make_llm: MakeLLM, grammar: dict[str, Any]) -> None:
    app = await make_llm()
    parameters = {"grammar": grammar, "max_new_tokens": 120, "do_sample": True, "seed": 1}
    require_schema((await tgi.answer(app, parameters=parameters))["generated_text"])
    require_schema((await tgi.events(app, parameters=parameters))[-1]["generated_text"])


async def test_tgis_clients_get_what_a_pattern_matches(make_llm: MakeLLM) -> None:
    app = await make_llm()
    parameters = {"grammar": {"type": "regex", "value": NUMBER}, "max_new_tokens": 120}
    assert re.fullmatch(NUMBER, (await tgi.answer(app, parameters=parameters))["generated_text"])


async def test_a_response_has_the_form_of_its_text(make_llm: MakeLLM) -> None:
    text = {"format": {"type": "json_schema", "name": "c", "schema": SCHEMA, "strict": True}}
    document = await responses.answer(await make_llm(), text=text, max_output_tokens=120)
    require_schema(responses.text_of(document))
    assert document["text"] == text


# --- the node's message -----------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}


async def post(app: Any, status: int = 200, destination: int = 1, **data: Any) -> Any:
    body = {"source": 1, "destination": destination, "data": {"text": "Which colour?", **data}}
    response = await app.test_client().post("/service_output", data=json.dumps(body), headers=JSON)
    text = await response.get_data()
    assert response.status_code == status, text
    return json.loads(text)


def onchain_text(document: dict[str, str]) -> str:
    from eth_abi.abi import decode

    [text] = decode(["string"], bytes.fromhex(document["raw_output"]))
    return str(text)


async def test_the_node_gets_an_object_and_a_contract_its_compact_json(make_llm: MakeLLM) -> None:
    app = await make_llm(arguments={"max_new_tokens": 120})
    told = await post(app, response_format=STRICT)
    require_schema(json.dumps(told))
    onchain = onchain_text(await post(app, destination=0, response_format=STRICT))
    assert onchain == json.dumps(told, separators=(",", ":"))


async def test_the_node_gets_calls_of_tools_and_a_contract_their_compact_json(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm(arguments={"max_new_tokens": 120})
    choice = {"type": "function", "function": {"name": "paint"}}
    told = await post(app, tools=[TOOL], tool_choice=choice)
    assert told["content"] is None
    [call] = told["tool_calls"]
    assert call["name"] == "paint"
    require_schema(json.dumps(call["arguments"]))
    onchain = onchain_text(await post(app, destination=0, tools=[TOOL], tool_choice=choice))
    assert onchain == json.dumps(told, separators=(",", ":"))
    free = await post(app, tools=[TOOL], max_new_tokens=4)
    assert free["tool_calls"] == []
    assert free["content"]


async def test_an_answer_that_is_cut_off_before_it_has_its_form_is_a_422(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    for wish in ({"response_format": STRICT}, {"tools": [TOOL], "tool_choice": "required"}):
        refused = await post(app, 422, max_new_tokens=2, **wish)
        assert "max_new_tokens" in refused["description"]


async def test_a_contracts_text_is_answered_with_text(make_llm: MakeLLM) -> None:
    app = await make_llm()
    body = json.dumps({"source": 0, "data": abi_text("Hello")})
    response = await app.test_client().post("/service_output", data=body, headers=JSON)
    assert onchain_text(json.loads(await response.get_data()))


# --- what is wrong ----------------------------------------------------------------------------

DEEP: dict[str, Any] = {"type": "object"}
for _ in range(20):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


def schema(value: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}


#: Fields at fault at OpenAI's addresses, with what the message begins with.
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"response_format": "json"}, "response_format: "),
    ({"response_format": {"type": "xml"}}, "response_format.type: "),
    ({"response_format": {"type": "json_schema"}}, "response_format: "),
    ({"response_format": {**STRICT, "type": "json_object"}}, "response_format: "),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "response_format.schema: "),
    ({"response_format": {**STRICT, "value": SCHEMA}}, "response_format: "),
    ({"response_format": {"type": "json_object", "value": 7}}, "response_format.value: "),
    ({"response_format": schema([])}, "response_format.json_schema.schema: "),
    ({"response_format": schema(DEEP)}, "response_format.json_schema.schema: a schema may have"),
    (
        {"response_format": schema({"description": "x" * 40_000})},
        "response_format.json_schema.schema: a schema may have",
    ),
    (
        {"response_format": schema({"type": "colour"})},
        "response_format.json_schema.schema: type: give one of",
    ),
    ({"response_format": schema({"$ref": "#/$defs/none"})}, "response_format: "),
    ({"response_format": schema({"type": "string", "pattern": "("})}, "response_format: "),
    ({"guided_json": "{"}, "guided_json: "),
    ({"guided_json": {"type": "colour"}}, "guided_json: "),
    ({"guided_regex": "("}, "guided_regex: "),
    ({"guided_regex": ""}, "guided_regex: "),
    ({"guided_regex": "a" * 5000}, "guided_regex: "),
    ({"guided_choice": "yes"}, "guided_choice: "),
    ({"guided_choice": ["a"] * 257}, "guided_choice: "),
    ({"guided_grammar": "root ::= x"}, "guided_grammar: not supported"),
    ({"structured_outputs": {"jsn": {}}}, "structured_outputs: no such field: 'jsn'; did you"),
    ({"structured_outputs": {"grammar": "x"}}, "structured_outputs: grammar: not supported"),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs: "),
    ({"guided_regex": "a", "guided_json": SCHEMA}, "guided_json: guided_regex asks"),
    ({"guided_regex": "a", "response_format": STRICT}, "guided_regex: response_format asks"),
]


async def test_a_form_that_is_wrong_is_refused_by_the_fields_name(make_llm: MakeLLM) -> None:
    app = await make_llm()
    told = [
        (path, fields, await fault(app, path, **fields), begin)
        for path in (CHAT, TEXT)
        for fields, begin in FAULTS
    ]
    assert [
        (path, str(fields)[:200], message)
        for path, fields, message, begin in told
        if not message.startswith(begin)
    ] == []


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ({}, "parameters.grammar: "),
        ({"type": "xml", "value": "x"}, "parameters.grammar: "),
        ({"type": "regex", "value": 7}, "parameters.grammar.regex.value: "),
        ({"type": "regex", "value": "("}, "parameters.grammar: "),
        ({"type": "json", "value": "x"}, "parameters.grammar.json.value: "),
        ({"type": "json", "value": DEEP}, "parameters.grammar.json.value: a schema may have"),
        ({"type": "json", "value": {"type": "colour"}}, "parameters.grammar.json.value: type: "),
        ({"type": "json_schema", "value": SCHEMA}, "parameters.grammar.json_schema.value"),
    ],
)
async def test_a_grammar_that_is_wrong_is_refused_by_its_name(
    make_llm: MakeLLM, grammar: Any, message: str
) -> None:
    response = await tgi.ask(await make_llm(), parameters={"grammar": grammar})
    assert response.status_code == 422
    assert json.loads(await response.get_data())["error"].startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"response_format": {"type": "xml"}}, "data.response_format.type: "),
        (
            {"response_format": schema({"type": "colour"})},
            "data.response_format.json_schema.schema: type: ",
        ),
        ({"tools": [{}]}, "data.tools.0.function: "),
        ({"tool_choice": "required"}, "tool_choice: "),
        ({"tools": [TOOL], "response_format": STRICT}, "tools: "),
        ({"tool": []}, "data: no such field: 'tool'; did you mean 'tools'?"),
    ],
)
async def test_a_wish_of_a_message_that_is_wrong_is_refused(
    make_llm: MakeLLM, data: dict[str, Any], message: str
) -> None:
    assert (await post(await make_llm(), 400, **data))["description"].startswith(message)
