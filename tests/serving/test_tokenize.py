"""The tokens of texts and conversations, in the words of vLLM and of TGI."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from ml.models.embedded_llm import embedded_llm_path
from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON

TEXT = "Grüße <|im_end|> 🌊"
TOKENIZER = AutoTokenizer.from_pretrained(embedded_llm_path())
IDS = TOKENIZER(TEXT).input_ids


async def post(app: Any, path: str, status: int = 200, **body: Any) -> Any:
    response = await app.test_client().post(path, data=json.dumps(body), headers=JSON)
    text = await response.get_data()
    assert response.status_code == status, text
    return json.loads(text)


async def test_a_text_has_tokens_that_have_the_text(make_llm: MakeLLM) -> None:
    app = await make_llm()
    told = await post(app, "/tokenize", prompt=TEXT, return_token_strs=True)
    assert told["tokens"] == IDS
    assert (told["count"], told["max_model_len"]) == (len(IDS), 256)
    assert len(told["token_strs"]) == len(IDS)
    assert told["token_strs"][0] == "Gr"
    assert "<|im_end|>" in told["token_strs"]
    assert (await post(app, "/tokenize", prompt=TEXT))["token_strs"] is None
    assert await post(app, "/detokenize", tokens=IDS) == {"prompt": TEXT}


async def test_tgis_clients_learn_where_each_token_stands(make_llm: MakeLLM) -> None:
    told = await post(await make_llm(), "/tokenize", inputs=TEXT)
    assert [token["id"] for token in told] == IDS
    assert all(token["text"] == TEXT[token["start"] : token["stop"]] for token in told)
    assert told[0] == {"id": IDS[0], "text": "Gr", "start": 0, "stop": 2}


async def test_a_conversation_has_the_tokens_that_its_prompt_has(make_llm: MakeLLM) -> None:
    app = await make_llm()
    body = {"messages": [{"role": "user", "content": TEXT}]}
    counted = await post(app, "/tokenize", **body)
    answered = await post(app, "/v1/chat/completions", **body)
    assert counted["count"] == answered["usage"]["prompt_tokens"]
    tools = [{"type": "function", "function": {"name": "look"}}]
    assert (await post(app, "/tokenize", **body, tools=tools))["count"] > counted["count"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/tokenize", {}, 400, "prompt: give one of"),
        ("/tokenize", {"prompt": "a", "inputs": "b"}, 400, "prompt: give one of"),
        ("/tokenize", {"messages": []}, 400, "messages: "),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, 400, "add_generation_"),
        ("/tokenize", {"prompt": "a", "model": "gpt-4"}, 404, "There is no model 'gpt-4'"),
        ("/tokenize", {"prompt": "a" * 10**6}, 400, "maximum context length"),
        ("/detokenize", {"tokens": [10**9]}, 400, "tokens: "),
        ("/detokenize", {"tokens": ["a"]}, 400, "tokens.0: "),
        ("/detokenize", {}, 400, "tokens: "),
        ("/detokenize", {"tokens": [1], "model": "gpt-4"}, 404, "There is no model 'gpt-4'"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_openais_words(
    make_llm: MakeLLM, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    error = (await post(await make_llm(), path, status, **body))["error"]
    assert message in error["message"]
