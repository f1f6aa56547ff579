"""Text Generation Inference's API: what comes over the wire.

tests/services drives it with huggingface_hub's own clients.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON
from tests.support.workflows import BreaksOff

INPUTS = "The capital of France is"


async def ask(app: Any, path: str = "/generate", **fields: Any) -> Any:
    body = json.dumps({"inputs": INPUTS, **fields})
    return await app.test_client().post(path, data=body, headers=JSON)


async def answer(app: Any, path: str = "/generate", **fields: Any) -> Any:
    response = await ask(app, path, **fields)
    text = (await response.get_data()).decode()
    assert response.status_code == 200, text
    return json.loads(text)


async def events(app: Any, path: str = "/generate_stream", **fields: Any) -> list[Any]:
    response = await ask(app, path, **fields)
    assert response.status_code == 200
    assert response.content_type.startswith("text/event-stream")
    lines = (await response.get_data()).decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_an_answer_has_the_text_and_details_where_they_are_asked_for(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    plain = await answer(app)
    assert set(plain) == {"generated_text"}
    detailed = await answer(app, parameters={"details": True, "seed": 5})
    assert detailed["generated_text"] == plain["generated_text"]
    details = detailed["details"]
    assert details["finish_reason"] == "length"
    assert details["generated_tokens"] == len(details["tokens"]) == 8
    assert details["seed"] == 5
    assert "".join(token["text"] for token in details["tokens"]) == plain["generated_text"]
    assert all(token["logprob"] < 0 for token in details["tokens"])


async def test_a_stream_has_an_event_for_each_token_and_the_whole_in_the_last(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    whole = await answer(app, parameters={"details": True})
    *before, last = await events(app)
    assert [e["token"] for e in [*before, last]] == whole["details"]["tokens"]
    assert [e["index"] for e in [*before, last]] == list(range(1, 9))
    assert all(e["generated_text"] is None and e["details"] is None for e in before)
    assert last["generated_text"] == whole["generated_text"]
    assert last["details"]["finish_reason"] == "length"
    assert last["details"]["generated_tokens"] == 8
    assert last["details"]["input_length"] > 1


async def test_the_root_streams_or_answers_with_a_list(make_llm: MakeLLM) -> None:
    app = await make_llm()
    [whole] = await answer(app, "/")
    assert whole == await answer(app)
    assert await events(app, "/", stream=True) == await events(app)


async def test_a_stop_string_is_part_of_the_text_as_it_is_with_tgi(make_llm: MakeLLM) -> None:
    app = await make_llm()
    whole = (await answer(app))["generated_text"]
    stop = whole[len(whole) // 2 :][:2]
    stopped = await answer(app, parameters={"stop": [stop], "details": True})
    assert stopped["generated_text"] == whole[: whole.index(stop) + len(stop)]
    assert stopped["details"]["finish_reason"] == "stop_sequence"


async def test_the_prompt_can_be_returned_and_cut(make_llm: MakeLLM) -> None:
    app = await make_llm()
    plain = (await answer(app))["generated_text"]
    full = await answer(app, parameters={"return_full_text": True})
    assert full["generated_text"] == INPUTS + plain
    last = (await events(app, parameters={"truncate": 2}))[-1]
    assert last["details"]["input_length"] == 2


@pytest.mark.parametrize("parameters", [{"do_sample": True}, {"top_k": 50}, {"temperature": 1.0}])
async def test_sampling_parameters_switch_sampling_on(
    make_llm: MakeLLM, parameters: dict[str, Any]
) -> None:
    app = await make_llm()
    greedy = await answer(app)
    assert greedy == await answer(app, parameters={"seed": 1})
    assert greedy == await answer(app, parameters={"do_sample": False})
    sampled = await answer(app, parameters={**parameters, "seed": 1})
    assert sampled == await answer(app, parameters={**parameters, "seed": 1})
    assert sampled != greedy


async def test_info_tells_the_model_and_its_limits(make_llm: MakeLLM) -> None:
    app = await make_llm(arguments={"max_length": 100}, max_in_flight=7)
    info = json.loads(await (await app.test_client().get("/info")).get_data())
    assert info["model_id"] == "tiny"
    assert info["max_total_tokens"] == 100
    assert info["max_concurrent_requests"] == 7
    assert info["model_device_type"] in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": ""}, "inputs: "),
        ({"inputs": 5}, "inputs: "),
        ({"parameters": {"watermark": True}}, "watermark: not supported here; leave it out or"),
        ({"parameters": {"max_new_token": 2}}, "did you mean 'max_new_tokens'?"),
        ({"parameters": {"grammar": {"type": "json"}}}, "parameters.grammar.json.value: "),
        ({"parameters": {"temperature": 0}}, "parameters.temperature: "),
        ({"inputs": "word " * 300}, "`inputs` must have less than 256 tokens. Given: 3"),
        ({"input": "x"}, "no such field: 'input'; did you mean 'inputs'?"),
    ],
)
async def test_what_cannot_be_done_is_a_validation_error(
    make_llm: MakeLLM, fields: dict[str, Any], message: str
) -> None:
    app = await make_llm()
    for path in ("/generate", "/generate_stream", "/"):
        response = await ask(app, path, **fields)
        assert response.status_code == 422
        document = json.loads(await response.get_data())
        assert document["error_type"] == "validation"
        assert message in document["error"]


async def test_an_unknown_adapter_is_not_found(make_llm: MakeLLM) -> None:
    response = await ask(await make_llm(), parameters={"adapter_id": "nobody"})
    assert response.status_code == 404


async def test_a_failed_generation_has_its_type_whole_or_in_the_middle(make_llm: MakeLLM) -> None:
    app = await make_llm(BreaksOff)
    response = await ask(app)
    assert response.status_code == 424
    assert json.loads(await response.get_data())["error_type"] == "generation"
    response = await ask(app, "/generate_stream")
    *_, last = (await response.get_data()).decode().strip().split("\n\n")
    name, data = last.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error_type"] == "generation"


async def test_the_root_asks_for_a_key_though_reading_it_does_not(make_llm: MakeLLM) -> None:
    app = await make_llm(api_keys="secret")
    assert (await app.test_client().get("/")).status_code == 200
    for path in app.endpoints:
        response = await ask(app, path)
        assert response.status_code == 401, path
        assert response.headers["WWW-Authenticate"] == "Bearer"
    response = await app.test_client().post("/", data="{}", headers=JSON | {"Authorization": "x"})
    assert json.loads(await response.get_data())["error_type"] == "unauthorized"
