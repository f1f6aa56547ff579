"""OpenAI's API: what comes over the wire. tests/services drives it with OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON, eventually, open_post
from tests.support.workflows import BreaksOff

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
BODIES = {CHAT: QUESTION, TEXT: {"prompt": "The capital of France is"}}


async def ask(app: Any, path: str, **fields: Any) -> Any:
    body = json.dumps({**BODIES[path], **fields})
    return await app.test_client().post(path, data=body, headers=JSON)


async def answer(app: Any, path: str = CHAT, **fields: Any) -> Any:
    response = await ask(app, path, **fields)
    text = (await response.get_data()).decode()
    assert response.status_code == 200, text
    return json.loads(text)


async def fault(app: Any, path: str = CHAT, *, status: int = 400, **fields: Any) -> str:
    """Return the message of a refusal, once its form is checked."""
    response = await ask(app, path, **fields)
    assert response.status_code == status
    error = json.loads(await response.get_data())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    return str(error["message"])


async def events(app: Any, path: str = CHAT, **fields: Any) -> list[Any]:
    """Return the data of a stream's events; the last is `[DONE]`."""
    response = await ask(app, path, stream=True, **fields)
    assert response.status_code == 200
    assert response.content_type.startswith("text/event-stream")
    lines = (await response.get_data()).decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]] + lines[-1:]


def text_of(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return str(choice["text"])
    return str(choice.get("message", choice.get("delta", {})).get("content", ""))


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_an_answer_has_its_text_its_end_and_its_numbers(make_llm: MakeLLM, path: str) -> None:
    document = await answer(await make_llm(), path)
    assert document["object"] == ("chat.completion" if path == CHAT else "text_completion")
    assert document["model"] == "tiny"
    [choice] = document["choices"]
    assert text_of(choice)
    assert choice["finish_reason"] == "length"
    usage = document["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_stream_has_the_same_text_and_ends_with_reason_usage_and_done(
    make_llm: MakeLLM, path: str
) -> None:
    app = await make_llm()
    whole = await answer(app, path)
    *chunks, usage, done = await events(app, path, stream_options={"include_usage": True})
    assert done == "data: [DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert "".join(text_of(c["choices"][0]) for c in chunks) == text_of(whole["choices"][0])
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1


async def test_without_the_wish_a_stream_has_no_usage(make_llm: MakeLLM) -> None:
    *chunks, _ = await events(await make_llm())
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks][:2] == ["assistant", None]


async def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(make_llm: MakeLLM) -> None:
    app = await make_llm()
    whole = text_of((await answer(app))["choices"][0])
    stop = whole[len(whole) // 2 :][:2]
    for value in (stop, [stop]):
        [choice] = (await answer(app, stop=value))["choices"]
        assert text_of(choice) == whole[: whole.index(stop)]
        assert choice["finish_reason"] == "stop"


async def test_the_newer_name_of_the_limit_wins(make_llm: MakeLLM) -> None:
    document = await answer(await make_llm(), max_tokens=7, max_completion_tokens=3)
    assert document["usage"]["completion_tokens"] == 3


async def test_a_seed_gives_the_same_answer_again(make_llm: MakeLLM) -> None:
    app = await make_llm()
    texts = [
        text_of((await answer(app, seed=seed, temperature=1.5))["choices"][0]) for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


async def test_content_in_parts_and_a_developer_are_read(make_llm: MakeLLM) -> None:
    app = await make_llm()
    parts = [
        {"type": "text", "text": "What is the capital "},
        {"type": "text", "text": "of France?"},
    ]
    system = {"content": "Be short."}
    user = {"role": "user", "name": "anna"}
    plain = await answer(
        app,
        messages=[
            {**system, "role": "system"},
            {**user, "content": "What is the capital of France?"},
        ],
    )
    same = await answer(app, messages=[{**system, "role": "developer"}, {**user, "content": parts}])
    assert plain["choices"] == same["choices"]
    assert plain["usage"] == same["usage"]


async def test_the_services_system_prompt_holds_where_the_client_gives_none(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm(arguments={"system_prompt": "Be short."})
    system = {"role": "system", "content": "Be short."}
    implied = await answer(app)
    given = await answer(app, messages=[system, *QUESTION["messages"]])
    assert implied["usage"] == given["usage"]
    assert implied["choices"] == given["choices"]


@pytest.mark.parametrize("model", ["tiny", None, "", "dummy", "tgi"])
async def test_the_models_name_or_a_clients_placeholder_is_taken(
    make_llm: MakeLLM, model: str | None
) -> None:
    assert (await answer(await make_llm(), model=model))["model"] == "tiny"


async def test_another_model_is_not_found(make_llm: MakeLLM) -> None:
    app = await make_llm()
    assert "'gpt-4'" in await fault(app, status=404, model="gpt-4")
    assert "tiny" in await fault(app, TEXT, status=404, model="gpt-4")


async def test_the_models_are_listed(make_llm: MakeLLM) -> None:
    client = (await make_llm()).test_client()
    listed = json.loads(await (await client.get("/v1/models")).get_data())
    assert [entry["id"] for entry in listed["data"]] == ["tiny"]
    assert (await client.get("/v1/models/tiny")).status_code == 200
    response = await client.get("/v1/models/a/b")
    assert response.status_code == 404
    assert json.loads(await response.get_data())["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        (CHAT, {"max_tokns": 5}, "no such field: 'max_tokns'; did you mean 'max_tokens'?"),
        (CHAT, {"modalities": ["audio"]}, "modalities: not supported here; leave it out or send"),
        (CHAT, {"messages": []}, "messages: "),
        (CHAT, {"messages": [{"role": "function", "content": "x"}]}, "messages.0.role: "),
        (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages.0.content: "),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "'image_url' is not supported, only",
        ),
        (CHAT, {"temperature": -1}, "temperature: "),
        (CHAT, {"max_tokens": 0}, "max_tokens: "),
        (CHAT, {"stop": ["x"] * 17}, "stop: "),
        (CHAT, {"stream_options": {"usage": True}}, "stream_options: no such field"),
        (TEXT, {"prompt": ["a", 5]}, "prompt: "),
        (TEXT, {"prompt": ""}, "the prompt is empty"),
        (TEXT, {"prompt": "word " * 300}, "maximum context length is 256 tokens"),
        (CHAT, {"echo": True}, "echo: not supported"),
        (TEXT, {"messages": []}, "no such field: 'messages'"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_field(
    make_llm: MakeLLM, path: str, fields: dict[str, Any], message: str
) -> None:
    assert message in await fault(await make_llm(), path, **fields)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"x"', b"\xff", b"{}"])
async def test_a_body_that_is_no_request_is_a_400(make_llm: MakeLLM, body: bytes) -> None:
    app = await make_llm()
    for path in (CHAT, TEXT):
        response = await app.test_client().post(path, data=body, headers=JSON)
        assert response.status_code == 400
        assert json.loads(await response.get_data())["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_failure_in_the_middle_is_an_error_event_and_no_done(
    make_llm: MakeLLM, path: str
) -> None:
    response = await ask(await make_llm(BreaksOff), path, stream=True)
    *_, last = (await response.get_data()).decode().strip().split("\n\n")
    name, data = last.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "out_of_memory"


async def test_without_a_stream_the_same_failure_has_its_status(make_llm: MakeLLM) -> None:
    assert "memory" in await fault(await make_llm(BreaksOff), status=507)


async def test_a_key_is_asked_for_in_openais_words(make_llm: MakeLLM) -> None:
    app = await make_llm(api_keys="secret")
    response = await ask(app, CHAT)
    assert response.status_code == 401
    assert json.loads(await response.get_data())["error"]["code"] == "invalid_api_key"
    headers = JSON | {"Authorization": "Bearer secret"}
    response = await app.test_client().post(CHAT, data=json.dumps(QUESTION), headers=headers)
    assert response.status_code == 200


async def test_beyond_the_limit_a_client_is_told_when_to_come_again(make_llm: MakeLLM) -> None:
    app = await make_llm(max_in_flight=1)
    busy = asyncio.create_task(ask(app, CHAT, max_tokens=200, seed=1, temperature=5))
    await eventually(lambda: app.admission.in_flight == 1)
    response = await ask(app, CHAT)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert json.loads(await response.get_data())["error"]["type"] == "server_error"
    await busy


async def test_a_client_that_leaves_ends_its_generation(make_llm: MakeLLM) -> None:
    app = await make_llm(arguments={"max_new_tokens": 200})
    async with open_post(app, path=CHAT) as connection:
        await connection.send(json.dumps({**QUESTION, "stream": True}).encode())
        await connection.send_complete()
        assert b"data: " in await connection.receive()
        await connection.disconnect()
    await eventually(lambda: app.admission.in_flight == 0)
    ended = 'generation_ended_total{reason="cancelled"} 1.0'
    told = (await app.metrics.text()).decode()
    assert ended in told
    assert "requests_cancelled_total 1.0" in told
