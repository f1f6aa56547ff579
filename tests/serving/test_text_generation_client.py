"""What the package text-generation 0.7 sends and reads: TGI's own client.

It asks for a huggingface-hub below 1, so its bodies are replayed here, as its `Client` makes them.
"""

from __future__ import annotations

import json
from typing import Any

from tests.serving.conftest import MakeLLM
from tests.serving.test_tgi import events
from tests.support.requests import JSON

PARAMETERS: dict[str, Any] = {
    "do_sample": False,
    "max_new_tokens": 4,
    "repetition_penalty": None,
    "frequency_penalty": None,
    "return_full_text": False,
    "stop": [],
    "seed": None,
    "temperature": None,
    "top_k": None,
    "top_p": None,
    "truncate": None,
    "typical_p": None,
    "best_of": None,
    "watermark": False,
    "details": True,
    "decoder_input_details": False,
    "top_n_tokens": None,
    "grammar": None,
}
CHAT: dict[str, Any] = {
    "model": "tgi",
    "messages": [{"role": "user", "content": "Hello", "name": None, "tool_calls": None}],
    "repetition_penalty": None,
    "frequency_penalty": None,
    "logit_bias": None,
    "logprobs": None,
    "top_logprobs": None,
    "max_tokens": 60,
    "n": None,
    "presence_penalty": None,
    "stream": False,
    "seed": None,
    "temperature": None,
    "top_p": None,
    "tools": None,
    "tool_choice": None,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}},
    },
}


async def post(app: Any, path: str, body: dict[str, Any]) -> Any:
    response = await app.test_client().post(path, data=json.dumps(body), headers=JSON)
    text = await response.get_data()
    assert response.status_code == 200, text
    return json.loads(text)


async def test_it_generates_whole_and_as_a_stream_and_learns_details(make_llm: MakeLLM) -> None:
    app = await make_llm()
    for wish in (
        {},
        {"decoder_input_details": True},
        {"best_of": 2, "do_sample": True, "temperature": 1.0},
        {"grammar": {"type": "regex", "value": "[a-c]{3}"}},
        {"grammar": {"type": "json", "value": TOOL["function"]["parameters"]}},  # type: ignore[index]
    ):
        body = {"inputs": "Hello", "parameters": {**PARAMETERS, **wish}, "stream": False}
        [whole] = await post(app, "/", body)
        details = whole["details"]
        assert {"finish_reason", "generated_tokens", "prefill", "tokens"} <= details.keys()
        assert all(
            {"id", "text", "logprob", "special"} <= token.keys() for token in details["tokens"]
        )
        assert len(details["prefill"]) == (1 if "decoder_input_details" in wish else 0)
        assert len(details.get("best_of_sequences", [])) == (1 if "best_of" in wish else 0)
    told = await events(app, "/", inputs="Hello", parameters=PARAMETERS, stream=True)
    assert [event["generated_text"] is None for event in told] == [True, True, True, False]


async def test_it_chats_and_names_the_tool_to_call_by_a_text(make_llm: MakeLLM) -> None:
    app = await make_llm()
    answer = await post(app, "/v1/chat/completions", CHAT)
    assert isinstance(answer["system_fingerprint"], str)
    assert answer["choices"][0]["message"]["content"]
    called = await post(
        app, "/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": "look"}
    )
    [call] = called["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "look"
