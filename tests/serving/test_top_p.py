"""`top_p` 0 takes the likeliest token, at every address."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from ml.generation.request import SamplingParameters
from ml.generation.sampling import Sampler, choose
from ml.upstream.parameters import GenerationParameters
from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON
from unsloth_trainer_service.inference import InferenceRequest

HOT = {"temperature": 5, "top_p": 0}
WAYS: dict[str, tuple[str, Any, Any]] = {
    "message": (
        "/service_output",
        lambda sampling: {"source": 1, "data": {"text": "Hello", **sampling}},
        lambda document: document,
    ),
    "chat": (
        "/v1/chat/completions",
        lambda sampling: {"messages": [{"role": "user", "content": "Hello"}], **sampling},
        lambda document: document["choices"][0]["message"]["content"],
    ),
    "completion": (
        "/v1/completions",
        lambda sampling: {"prompt": "Hello", **sampling},
        lambda document: document["choices"][0]["text"],
    ),
    "generate": (
        "/generate",
        lambda sampling: {"inputs": "Hello", "parameters": sampling},
        lambda document: document["generated_text"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_likeliest_tokens_are_taken_however_hot_it_is(
    make_llm: MakeLLM, way: str
) -> None:
    app = await make_llm()
    path, body, text = WAYS[way]
    answers = []
    for sampling in ({}, HOT, HOT):
        data = json.dumps(body(sampling))
        response = await app.test_client().post(path, data=data, headers=JSON)
        assert response.status_code == 200
        answers.append(text(json.loads(await response.get_data())))
    assert answers[0]
    assert set(answers) == {answers[0]}


@pytest.mark.parametrize("top_k", [0, 3])
def test_a_nucleus_of_nothing_still_has_its_likeliest_token(top_k: int) -> None:
    parameters = SamplingParameters(temperature=5.0, top_p=0.0, top_k=top_k)
    logits = torch.tensor([[0.0, 0.1, 0.3, 0.2]]).repeat(20, 1)
    chosen = choose(logits, [Sampler(parameters, []) for _ in range(20)])
    assert {token.id for token in chosen if token} == {2}


def test_a_tuned_model_and_a_server_behind_take_it_too() -> None:
    assert InferenceRequest(model_path="a", prompt="b", top_p=0).top_p == 0
    # TGI itself takes no 0.
    assert 0 < GenerationParameters(top_p=0).given()["top_p"] < 1e-3
