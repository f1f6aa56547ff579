"""What Open WebUI sends, as version 0.12.4 was seen to, against a service that asks for a key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import MakeLLM
from tests.support.tiny_embedder import save_tiny_embedder

KEY = "a-key-for-tests"
HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "Content-Type": "application/json",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br",
    # With ENABLE_FORWARD_USER_INFO_HEADERS:
    "X-OpenWebUI-User-Name": "Ada",
    "X-OpenWebUI-User-Email": "ada@example.org",
    "X-OpenWebUI-Chat-Id": "1c1f6f0e-6f0a-4b0e-9d5e-0a8f6f3a2b1c",
}
CHAT = "/v1/chat/completions"
ASKED = {"role": "user", "content": "What is the capital of France?"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_current_timestamp",
            "description": "Get the current Unix timestamp in seconds.",
            "parameters": {"properties": {}, "type": "object"},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "ask_user",
            "description": "Ask the user.",
            "parameters": {
                "properties": {
                    "questions": {
                        "description": "1-3 question objects",
                        "items": {"additionalProperties": True, "type": "object"},
                        "type": "array",
                    },
                    "timeout_ms": {"default": 120000, "description": "How long", "type": "integer"},
                },
                "required": ["questions"],
                "type": "object",
            },
        },
    },
]
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_current_timestamp", "arguments": "{}"},
}
#: What each thing that a person does there sends.
CALLS: dict[str, dict[str, Any]] = {
    "a first message": {"stream": True, "messages": [ASKED]},
    "with the usage shown": {
        "stream": True,
        "messages": [{"role": "system", "content": "Be short."}, ASKED],
        "stream_options": {"include_usage": True},
    },
    "after a stop before the first word": {
        "stream": True,
        "messages": [ASKED, {"role": "assistant", "content": ""}, ASKED],
    },
    "continue response": {
        "stream": True,
        "messages": [ASKED, {"role": "assistant", "content": "The capital"}],
    },
    "its own tools": {"stream": True, "messages": [ASKED], "tools": TOOLS},
    "what a tool answered": {
        "stream": True,
        "messages": [
            ASKED,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"current_timestamp": 1}'},
        ],
        "tools": TOOLS[:1],  # all of them do not fit
    },
    "parameters of a chat": {
        "stream": True,
        "messages": [ASKED],
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "max_tokens": 5,
        "seed": 7,
        "stop": ["\n\n"],
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
    },
    "a title": {"messages": [ASKED], "stream": False, "max_tokens": 1000},
    "tags and next questions": {"messages": [ASKED], "stream": False},
    "an emoji": {"messages": [ASKED], "stream": False, "max_tokens": 4},
}


async def sent(app: Any, body: dict[str, Any]) -> tuple[int, str]:
    data = json.dumps({"model": "tiny"} | body)
    response = await app.test_client().post(CHAT, data=data, headers=HEADERS)
    return response.status_code, (await response.get_data()).decode()


async def test_what_a_person_does_there_is_answered(make_llm: MakeLLM) -> None:
    app = await make_llm(api_keys=KEY)
    for what, body in CALLS.items():
        status, text = await sent(app, body)
        assert status == 200, (what, text)
        if body["stream"]:
            assert text.endswith("data: [DONE]\n\n"), what
            events = [json.loads(one[6:]) for one in text.split("\n\n")[:-2]]
            usages = [event["usage"] for event in events if event.get("usage")]
            assert len(usages) == ("stream_options" in body), what
        else:
            [choice] = json.loads(text)["choices"]
            assert isinstance(choice["message"]["content"], str), what


async def test_a_connection_is_verified_by_the_list_of_models(make_llm: MakeLLM) -> None:
    app = await make_llm(api_keys=KEY)
    client = app.test_client()
    listed = await (await client.get("/v1/models", headers=HEADERS)).get_json()
    assert [model["id"] for model in listed["data"]] == ["tiny"]
    wrong = await client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401
    assert "valid key" in (await wrong.get_json())["error"]["message"]


async def test_what_it_cannot_have_is_said_in_words_that_it_shows(make_llm: MakeLLM) -> None:
    app = await make_llm(api_keys=KEY)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    refused: dict[str, dict[str, Any]] = {
        "image_url": {"messages": [{"role": "user", "content": [picture]}]},
        "maximum context length": {"messages": [{"role": "user", "content": "word " * 5000}]},
        "repeat_penalty": {"messages": [ASKED], "repeat_penalty": 1.1},
    }
    for words, body in refused.items():
        status, text = await sent(app, body | {"stream": True})
        assert status == 400, (words, text)
        assert words in json.loads(text)["error"]["message"]


async def test_its_documents_get_their_vectors(make_llm: MakeLLM, tmp_path: Path) -> None:
    embedder = save_tiny_embedder(tmp_path / "tiny-embedder")
    app = await make_llm(api_keys=KEY, arguments={"embedding_model": str(embedder)})
    body = json.dumps({"input": ["Paris", "Rome"], "model": "tiny-embedder"})
    reply = await app.test_client().post("/v1/embeddings", data=body, headers=HEADERS)
    assert reply.status_code == 200
    vectors = [one["embedding"] for one in (await reply.get_json())["data"]]
    assert [len(vector) for vector in vectors] == [16, 16]
    assert vectors[0] != pytest.approx(vectors[1])
