"""What clients of other servers send as well, and what all APIs do alike.

Tables are walked within a test: a service with a model is made once for each.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON, post

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES},
    TEXT: {"prompt": "The capital of France is"},
    "/generate": {"inputs": "The capital of France is"},
}
#: They change nothing, and clients send them.
NEUTRAL: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"repetition_penalty": None, "top_k": -1, "ignore_eos": False, "min_p": 0}),
    (CHAT, {"repetition_penalty": 1.0, "top_k": 0, "length_penalty": 1, "best_of": 1}),
    (CHAT, {"n": 1, "presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": {}}),
    (CHAT, {"stop": None, "seed": None, "temperature": None, "top_p": None, "max_tokens": None}),
    (CHAT, {"stop": [], "response_format": {"type": "text"}, "stream_options": None}),
    (CHAT, {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": []}),
    (CHAT, {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}),
    (CHAT, {"logprobs": False, "top_logprobs": 0}),
    (CHAT, {"logprobs": None, "top_logprobs": None, "modalities": ["text"], "model": "tgi"}),
    (CHAT, {"skip_special_tokens": True, "stop_token_ids": [], "min_tokens": 0, "top_k": -1}),
    (TEXT, {"logit_bias": {}, "n": 1, "best_of": 1, "echo": False, "logprobs": None, "top_k": -1}),
    (TEXT, {"suffix": None, "stop": [], "use_beam_search": False, "presence_penalty": 0}),
    ("/generate", {"parameters": {"top_k": -1, "repetition_penalty": None, "best_of": 1}}),
    ("/generate", {"parameters": {"typical_p": 1.0, "watermark": False, "top_n_tokens": None}}),
]


async def ask(app: Any, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    response = await app.test_client().post(path, data=json.dumps(body), headers=JSON)
    return response.status_code, json.loads(await response.get_data())


def text_of(document: Any) -> str:
    if "generated_text" in document:
        return str(document["generated_text"])
    [choice] = document["choices"]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


async def test_values_that_change_nothing_are_taken_and_others_named(make_llm: MakeLLM) -> None:
    app = await make_llm()
    plain = {path: await ask(app, path, body) for path, body in BODIES.items()}
    for path, fields in NEUTRAL:
        status, document = await ask(app, path, BODIES[path] | fields)
        assert status == 200, (fields, document)
        assert text_of(document) == text_of(plain[path][1]), fields
    for name, value in {
        "length_penalty": 1.2,
        "typical_p": 0.5,
        "use_beam_search": True,
        "min_tokens": 3,
    }.items():
        status, document = await ask(app, CHAT, BODIES[CHAT] | {name: value})
        assert (status, document["error"]["param"]) == (400, name)


async def test_more_tokens_than_fit_are_as_many_as_fit(make_llm: MakeLLM) -> None:
    app = await make_llm(arguments={"max_length": 64})
    most = 10**12
    for path in (CHAT, TEXT):
        status, document = await ask(app, path, BODIES[path] | {"max_tokens": most})
        assert status == 200, document
        assert document["usage"]["total_tokens"] <= 64
    details = {"max_new_tokens": most, "details": True}
    status, document = await ask(app, "/generate", BODIES["/generate"] | {"parameters": details})
    assert status == 200, document
    assert document["details"]["generated_tokens"] < 64
    response = await post(app, {"text": "Hello", "max_new_tokens": most})
    assert response.status_code == 200


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_prompt_that_is_too_long_has_each_apis_own_words(
    make_llm: MakeLLM, is_stream: bool
) -> None:
    app, long = await make_llm(), "word " * 300
    bodies = {CHAT: {"messages": [{"role": "user", "content": long}]}, TEXT: {"prompt": long}}
    for path, body in bodies.items():
        status, document = await ask(app, path, body | {"stream": is_stream})
        error, name = document["error"], next(iter(body))
        assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", name)
        assert error["message"].startswith("This model's maximum context length is 256 tokens.")
    path = "/generate_stream" if is_stream else "/generate"
    status, document = await ask(app, path, {"inputs": long})
    assert (status, document["error_type"]) == (422, "validation")
    assert "`inputs` must have less than 256 tokens. Given: 30" in document["error"]


async def test_each_prompt_becomes_a_choice_whole_or_in_a_stream(make_llm: MakeLLM) -> None:
    app = await make_llm()
    texts = ["The capital of France is", "Once upon a time", "One and one is"]
    alone = [text_of((await ask(app, TEXT, {"prompt": text}))[1]) for text in texts]
    status, document = await ask(app, TEXT, {"prompt": texts})
    assert status == 200
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2]
    assert [choice["text"] for choice in document["choices"]] == alone
    assert document["usage"]["completion_tokens"] == 3 * 8

    body = {"prompt": texts, "stream": True, "stream_options": {"include_usage": True}}
    response = await app.test_client().post(TEXT, data=json.dumps(body), headers=JSON)
    *events, done = (await response.get_data()).decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    *chunks, usage = [json.loads(line.removeprefix("data: ")) for line in events]
    assert usage["usage"] == document["usage"]
    streamed, reasons = [""] * 3, [None] * 3
    for chunk in chunks:
        [choice] = chunk["choices"]
        streamed[choice["index"]] += choice["text"]
        reasons[choice["index"]] = choice["finish_reason"]
    assert streamed == alone
    assert reasons == ["length"] * 3


async def test_token_ids_are_prompts_too(make_llm: MakeLLM) -> None:
    app = await make_llm()
    tokenizer = app.workflow.language_model.loaded.tokenizer
    texts = ["The capital of France is", "Once upon a time"]
    ids = [tokenizer(text).input_ids for text in texts]
    _, by_text = await ask(app, TEXT, {"prompt": texts})
    _, by_ids = await ask(app, TEXT, {"prompt": ids})
    assert by_ids["choices"] == by_text["choices"]
    _, one = await ask(app, TEXT, {"prompt": ids[0]})
    assert text_of(one) == by_text["choices"][0]["text"]
    wrong: list[Any] = [[], [[]], [1, "a"], [True], [1.5], [10**6], [-1], [[1], 2], None, {"a": 1}]
    for prompt in [*wrong, ["x"] * 65]:
        status, document = await ask(app, TEXT, {"prompt": prompt})
        assert status == 400, prompt
        assert document["error"]["param"] == "prompt", document


async def test_a_part_that_is_no_text_is_refused_with_its_place(make_llm: MakeLLM) -> None:
    app = await make_llm()
    good = {"type": "text", "text": "x"}
    image = {"type": "image_url", "image_url": {"url": "x"}}
    wrong: list[tuple[Any, str]] = [
        ([{"type": "text", "text": None}], "part 0: text: "),
        ([good, {"type": "text", "text": 5}], "part 1: text: "),
        ([good, {"type": "text"}], "part 1: text: "),
        ([{"type": "text", "text": "x", "txt": "y"}], "did you mean 'text'?"),
        ([image], "part 0: 'image_url' is not supported"),
        ([{"text": "x"}], "part 0: type: "),
        ([{"type": None, "text": "x"}], "part 0: type: "),
        ([None], "part 0: "),
        (["x"], "part 0: "),
        ([], "give at least one part"),
        (5, "content: "),
        (None, "content: "),
    ]
    for content, message in wrong:
        status, document = await ask(
            app, CHAT, {"messages": [{"role": "user", "content": content}]}
        )
        assert status == 400, content
        assert message in document["error"]["message"], document
        assert document["error"]["param"] == "messages[0].content"


async def test_a_key_that_no_request_has_is_refused_with_the_one_that_was_meant(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    response = await post(app, {"text": "Hello", "temprature": 1})
    assert response.status_code == 400
    description = json.loads(await response.get_data())["description"]
    assert description == "data: no such field: 'temprature'; did you mean 'temperature'?"
    document = {"text": "Hello", "key": "123", "messageId": "123456", "history": []}
    assert (await post(app, document)).status_code == 200
    # What another container said beside its output is not for this one.
    assert (await post(app, {"output": "Hello", "seconds": 2})).status_code == 200


async def test_below_v1_every_failure_has_openais_form(make_llm: MakeLLM) -> None:
    app = await make_llm(api_keys="secret")
    client, key = app.test_client(), {"Authorization": "Bearer secret"}
    for method, path, headers, status, code in [
        ("GET", "/v1/nothing", key, 404, None),
        ("POST", "/v1/models", key, 405, "method_not_supported"),
        ("GET", "/v1/chat/completions", key, 405, "method_not_supported"),
        ("GET", "/v1/models", {}, 401, "invalid_api_key"),
        ("GET", "/v1/models/gpt-4", key, 404, "model_not_found"),
        ("GET", "/v1/models/a/b", key, 404, "model_not_found"),
        ("GET", "/v1/adapters", key, 404, None),
    ]:
        response = await client.open(path, method=method, headers=headers)
        error = json.loads(await response.get_data())["error"]
        assert set(error) == {"message", "type", "param", "code"}
        found = (response.status_code, error["type"], error["code"])
        assert found == (status, "invalid_request_error", code), path
    response = await client.get("/nothing", headers=key)
    assert json.loads(await response.get_data())["code"] == "404"


async def test_every_name_that_model_takes_can_be_retrieved(make_llm: MakeLLM) -> None:
    app = await make_llm()
    client = app.test_client()
    for name in ("tiny", "tgi", "dummy"):
        assert (await ask(app, CHAT, BODIES[CHAT] | {"model": name}))[0] == 200
        response = await client.get(f"/v1/models/{name}")
        assert json.loads(await response.get_data())["id"] == name
