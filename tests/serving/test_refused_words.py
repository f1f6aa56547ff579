"""What is wrong is refused in our words, by the name that the client wrote, at every address."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from tests.conftest import MakeApp
from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
TGI, MESSAGE = "/generate", "/service_output"
Asked = tuple[str, dict[str, Any]]


def chat(**fields: Any) -> Asked:
    return CHAT, {"messages": [{"role": "user", "content": "Hello"}], **fields}


def text(**fields: Any) -> Asked:
    return TEXT, {"prompt": "Hello", **fields}


def responses(**fields: Any) -> Asked:
    return RESPONSES, {"input": "Hello", **fields}


def tgi(**parameters: Any) -> Asked:
    return TGI, {"inputs": "Hello", "parameters": parameters}


def message(**data: Any) -> Asked:
    return MESSAGE, {"source": 1, "destination": 1, "data": {"text": "Hello", **data}}


def named(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def tool(schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "a", "parameters": schema}}


def flat_tool(schema: Any) -> dict[str, Any]:
    return {"type": "function", "name": "a", "parameters": schema}


async def refusal(app: Any, asked: Asked) -> tuple[int, str, str | None]:
    """Return the status, what is said, and the field that OpenAI's clients are told of."""
    path, body = asked
    response = await app.test_client().post(path, data=json.dumps(body), headers=JSON)
    told = json.loads(await response.get_data())
    if path == TGI:
        return response.status_code, told.get("error", ""), None
    if path == MESSAGE:
        is_error = response.status_code != 200
        return response.status_code, told["description"] if is_error else "", None
    error = told.get("error") or {"message": "", "param": None}
    return response.status_code, error["message"], error["param"]


async def require_refused(app: Any, table: list[tuple[Asked, str]]) -> None:
    """Check that each is a 400, or a 422 of TGI's, whose message begins as it should."""
    wrong = []
    for asked, begin in table:
        status, told, _ = await refusal(app, asked)
        if status != (422 if asked[0] == TGI else 400) or not told.startswith(begin):
            wrong.append((asked[0], str(asked[1])[:300], begin, status, told))
    assert wrong == []


#: How each address is asked for an answer of a schema, and what it calls the schema.
SCHEMAS: list[tuple[Callable[[Any], Asked], str]] = [
    (lambda s: chat(response_format=named(s)), "response_format.json_schema.schema"),
    (lambda s: chat(tools=[tool(s)]), "tools.0.function.parameters"),
    (lambda s: text(guided_json=s), "guided_json"),
    (lambda s: text(structured_outputs={"json": s}), "structured_outputs.json"),
    (
        lambda s: responses(text={"format": {"type": "json_schema", "name": "a", "schema": s}}),
        "text.format.schema",
    ),
    (lambda s: responses(tools=[flat_tool(s)]), "tools.0.parameters"),
    (lambda s: tgi(grammar={"type": "json", "value": s}), "parameters.grammar.json.value"),
    (lambda s: message(response_format=named(s)), "data.response_format.json_schema.schema"),
    (lambda s: message(tools=[tool(s)]), "data.tools.0.function.parameters"),
]
#: Schemas at fault, with the place of the fault and what is due there.
FAULTS: list[tuple[Any, str]] = [
    ({"enum": []}, ".enum: give a list with at least one value"),
    ({"enum": "red"}, ".enum: give a list with at least one value"),
    ({"anyOf": []}, ".anyOf: give a list with at least one schema"),
    ({"oneOf": [{}, 3]}, ".oneOf: give a list with at least one schema"),
    ({"allOf": [{"enum": []}]}, ".allOf.0.enum: give a list"),
    ({"type": "colour"}, ".type: give one of array, boolean,"),
    ({"type": []}, ".type: give one of"),
    ({"type": ["string", 1]}, ".type: give one of"),
    ({"type": {"a": 1}}, ".type: give one of"),
    ({"minItems": -1}, ".minItems: give a whole number, 0 or above"),
    ({"maxLength": "9"}, ".maxLength: give a whole number"),
    ({"maxLength": True}, ".maxLength: give a whole number"),
    ({"minLength": 3, "maxLength": 2}, ".minLength: give no more than maxLength"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, ".minimum: give no more than maximum"),
    ({"exclusiveMinimum": True}, ".exclusiveMinimum: give a number"),
    ({"multipleOf": 0}, ".multipleOf: give a number above 0"),
    ({"pattern": 5}, ".pattern: give a text"),
    ({"$ref": {}}, ".$ref: give a text"),
    ({"properties": []}, ".properties: give an object with a schema for each name"),
    ({"properties": {"b": "text"}}, ".properties: give an object"),
    ({"properties": {"enum": {"items": {"const": 1, "enum": []}}}}, ".properties.enum.items.enum"),
    ({"required": True}, ".required: give a list of names"),
    ({"items": "text"}, ".items: give a schema"),
    ({"additionalProperties": "no"}, ".additionalProperties: give a schema"),
    ({"uniqueItems": "yes"}, ".uniqueItems: give true or false"),
]


async def test_a_schema_is_refused_with_the_place_of_its_fault(make_llm: MakeLLM) -> None:
    def inside(fault: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"a": fault}}

    table = [
        (ask(inside(schema)), f"{field}: properties{due}")
        for ask, field in SCHEMAS
        for schema, due in [(5, ": give an object"), *((s, f".a{due}") for s, due in FAULTS)]
    ]
    await require_refused(await make_llm(), table)


TRUE: list[tuple[Asked, str]] = [
    *((chat(**{name: True}), f"{name}: give a number") for name in
      ("n", "seed", "temperature", "top_p", "top_k", "min_p", "max_tokens",
       "max_completion_tokens", "frequency_penalty", "repetition_penalty")),
    (chat(logprobs=True, top_logprobs=True), "top_logprobs: give a number"),
    (chat(logit_bias={"1": True}), "logit_bias.1: give a number"),
    (text(logprobs=True), "logprobs: give a number"),
    (text(best_of=True), "best_of: give a number"),
    (responses(max_output_tokens=True), "max_output_tokens: give a number"),
    (responses(top_logprobs=False), "top_logprobs: give a number"),
    *((tgi(**{name: True}), f"parameters.{name}: give a number") for name in
      ("best_of", "max_new_tokens", "seed", "temperature", "top_n_tokens", "truncate")),
    (message(max_new_tokens=True), "data.max_new_tokens: give a number"),
    (message(temperature=False), "data.temperature: give a number"),
    (("/detokenize", {"tokens": [5, True]}), "tokens.1: give a number"),
]  # fmt: skip


async def test_true_and_false_are_no_numbers(make_llm: MakeLLM) -> None:
    await require_refused(await make_llm(), TRUE)


NOTHING = {"type": "function", "function": {"name": "a"}}
OVERLOOKED: list[tuple[Asked, str]] = [
    (chat(tools=[{**NOTHING, "strict": True}]), "tools.0.strict: no such field"),
    (message(tools=[{**NOTHING, "foo": 1}]), "data.tools.0.foo: no such field"),
    (chat(tools=[{"type": "function", "function": {"name": "a", "arguments": {}}}]),
     "tools.0.function.arguments: no such field"),
    (chat(response_format={"type": "json_object", "schema": {}}),
     "response_format.schema: no such field"),
    (tgi(grammar={"type": "regex", "value": "a", "flags": "i"}),
     "parameters.grammar.regex.flags: no such field"),
    (message(history=[{"player": "a"}, {"x": "y"}]), "data.history.1: no such speaker: 'x'; give"),
    (message(history=[{"bot": "a", "user": "b"}]), "data.history.0: no such speaker: 'user'"),
    (chat(guided_choice=[]), "guided_choice: "),
    (text(structured_outputs={"choice": []}), "structured_outputs.choice: "),
    (text(structured_outputs={"choice": ["a"], "regex": "b"}), "structured_outputs: give one of"),
]  # fmt: skip


async def test_what_would_be_overlooked_is_refused(make_llm: MakeLLM) -> None:
    await require_refused(await make_llm(), OVERLOOKED)


async def test_what_clients_send_beside_a_function_is_taken(make_llm: MakeLLM) -> None:
    app = await make_llm()
    for asked in (
        chat(tools=[{**NOTHING, "cache_control": {"type": "ephemeral"}}], max_tokens=2),
        message(history=[{"bot": "a", "player": None}, {}, None], max_new_tokens=2),
    ):
        assert (await refusal(app, asked))[:2] == (200, "")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_choice": ["a"], "guided_regex": "b"}, "guided_regex"),
        ({"guided_json": {}, "guided_choice": ["a"]}, "guided_json"),
        ({"guided_json": {}, "response_format": {"type": "json_object"}}, "guided_json"),
        ({"structured_outputs": {"regex": "a"}, "guided_choice": ["a"]}, "guided_choice"),
    ],
)
async def test_of_two_forms_both_are_named_and_one_is_the_param(
    make_llm: MakeLLM, fields: dict[str, Any], param: str
) -> None:
    app = await make_llm()
    for ask in (chat, text):
        status, told, named = await refusal(app, ask(**fields))
        assert (status, named) == (400, param)
        assert all(name in told for name in fields)


# --- regular expressions ----------------------------------------------------------------------


def with_pattern(pattern: str) -> dict[str, Any]:
    text = {"type": "string", "pattern": pattern}
    return {"type": "object", "properties": {"a": text}, "required": ["a"]}


#: How each address is asked for an answer that a pattern matches.
PATTERNS: list[Callable[[str], Asked]] = [
    lambda p: chat(guided_regex=p),
    lambda p: text(structured_outputs={"regex": p}),
    lambda p: tgi(grammar={"type": "regex", "value": p}, max_new_tokens=8),
    lambda p: chat(response_format=named({"type": "string", "pattern": p})),
    lambda p: responses(tools=[flat_tool(with_pattern(p))]),
    lambda p: message(response_format=named({"type": "string", "pattern": p})),
]
NO_TEXT = [r"[^\s\S]", "a[^\\w\\W]b", "a^b", "a$b", r"\d^", "(a|b)$c"]


async def require_matched(app: Any) -> None:
    """Check that patterns which match no text are refused by name, and others are not."""
    await require_refused(app, [(ask(p), "") for ask in PATTERNS for p in NO_TEXT])
    for pattern in ("^[ab]{2,3}$", "^a|b$", "[ab]+", r"\$\^", "[$^]"):
        for ask in PATTERNS[:3]:
            assert (await refusal(app, ask(pattern)))[:2] == (200, ""), pattern


async def test_a_pattern_that_matches_no_text_is_refused(make_llm: MakeLLM) -> None:
    await require_matched(await make_llm())


# --- prompts that are scored ------------------------------------------------------------------


async def test_more_tokens_of_prompts_than_one_request_may_have_scored_are_refused(
    make_llm: MakeLLM,
) -> None:
    """The tiny model reads 256 tokens, so that it is the number of the prompts that is too high."""
    app = await make_llm()
    ids = [[504] * 200] * 41
    status, told, param = await refusal(app, text(prompt=ids, echo=True, logprobs=1, max_tokens=0))
    assert (status, param) == (400, "prompt")
    assert "8192" in told
    assert "8200" in told
    for asked in (
        text(prompt=ids[:40], echo=True, logprobs=1, max_tokens=0),
        text(prompt=ids, echo=True, max_tokens=0),
    ):
        assert (await refusal(app, asked))[0] == 200


# --- an engine that cannot do it --------------------------------------------------------------

UNABLE: list[tuple[Asked, str]] = [
    (chat(logprobs=True, top_logprobs=2), "top_logprobs: engine openvino cannot"),
    (text(logprobs=2), "logprobs: engine openvino cannot"),
    (text(logprobs=2, echo=True), "logprobs: engine openvino cannot"),
    (responses(top_logprobs=2), "top_logprobs: engine openvino cannot"),
    (tgi(details=True, top_n_tokens=2), "parameters.top_n_tokens: engine openvino cannot"),
    (chat(logit_bias={"5": 1}), "logit_bias: engine openvino cannot"),
]


async def test_openvino_refuses_what_it_cannot_do_by_the_clients_names(make_app: MakeApp) -> None:
    app = await make_app(
        LLMInferenceWorkflow,
        workflow_kw_args={"engine": "openvino", "max_length": 256, "max_new_tokens": 8},
    )
    await require_refused(app, UNABLE)
    await require_matched(app)


# --- bodies that are none ---------------------------------------------------------------------


async def test_a_body_with_nan_is_no_json_wherever_one_is_read(make_llm: MakeLLM) -> None:
    client = (await make_llm()).test_client()
    for path in (CHAT, TEXT, RESPONSES, TGI, "/tokenize", "/detokenize"):
        response = await client.post(path, data=b'{"temperature": NaN}', headers=JSON)
        assert response.status_code == (422 if path == TGI else 400), path
        assert b"the body is no JSON" in await response.get_data(), path


async def test_what_is_no_object_or_list_is_told_without_names_of_ours(make_llm: MakeLLM) -> None:
    table: list[tuple[Asked, str]] = [
        ((CHAT, {"messages": [5]}), "messages.0: give an object"),
        (chat(stream_options=5), "stream_options: give an object"),
        (chat(tools=5), "tools: give a list"),
        (chat(tools=[5]), "tools.0: give an object"),
        (message(tools=[5]), "data.tools.0: give an object"),
        ((TGI, {"inputs": "a", "parameters": []}), "parameters: give an object"),
    ]
    await require_refused(await make_llm(), table)
