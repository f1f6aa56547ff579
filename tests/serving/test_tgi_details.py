"""What TGI's clients learn of an answer beside its text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from huggingface_hub import TextGenerationOutput

from tests.serving.conftest import MakeLLM
from tests.serving.test_tgi import INPUTS, answer, ask, events

SAMPLED = {"temperature": 2, "seed": 7}


async def test_the_likeliest_tokens_come_with_each_token(make_llm: MakeLLM) -> None:
    app = await make_llm(arguments={"dtype": "float32"})
    whole = await answer(app, parameters={"details": True, "top_n_tokens": 3})
    assert TextGenerationOutput.parse_obj_as_instance(whole).details.top_tokens
    details = whole["details"]
    for token, top in zip(details["tokens"], details["top_tokens"], strict=True):
        assert len(top) == 3
        assert (top[0]["id"], top[0]["logprob"]) == (token["id"], token["logprob"])
        assert set(top[0]) == set(token)
    streamed = await events(app, parameters={"top_n_tokens": 3})
    assert [event["top_tokens"] for event in streamed] == details["top_tokens"]
    assert "top_tokens" not in (await answer(app, parameters={"details": True}))["details"]


async def test_the_prompts_tokens_come_with_their_probabilities(make_llm: MakeLLM) -> None:
    app = await make_llm()
    parameters = {"details": True, "decoder_input_details": True}
    prefill = (await answer(app, parameters=parameters))["details"]["prefill"]
    assert "".join(token["text"] for token in prefill) == INPUTS
    assert prefill[0]["logprob"] is None
    assert all(token["logprob"] < 0 for token in prefill[1:])


async def test_the_best_of_several_comes_with_the_others(make_llm: MakeLLM) -> None:
    app = await make_llm()
    parameters = {"best_of": 3, "details": True, **SAMPLED}
    whole = await answer(app, parameters=parameters)
    best, *others = [whole["details"], *whole["details"]["best_of_sequences"]]
    assert sorted(one["seed"] for one in [best, *others]) == [7, 8, 9]
    means = [
        sum(token["logprob"] for token in one["tokens"]) / one["generated_tokens"]
        for one in [best, *others]
    ]
    assert means == sorted(means, reverse=True)
    for one in others:
        alone = await answer(app, parameters={**SAMPLED, "seed": one["seed"]})
        assert one["generated_text"] == alone["generated_text"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 0}, "parameters.best_of: "),
        ({"best_of": 65}, "parameters.best_of: "),
        ({"top_n_tokens": 21}, "parameters.top_n_tokens: "),
        ({"decoder_input_details": True}, "parameters: decoder_input_details: "),
        ({"repetition_penalty": 0}, "parameters.repetition_penalty: "),
        ({"frequency_penalty": 3}, "parameters.frequency_penalty: "),
        ({"typical_p": 0.5}, "parameters: typical_p: not supported"),
    ],
)
async def test_a_parameter_out_of_bounds_is_refused_by_its_name(
    make_llm: MakeLLM, parameters: dict[str, Any], message: str
) -> None:
    response = await ask(await make_llm(), parameters=parameters)
    assert response.status_code == 422
    assert json.loads(await response.get_data())["error"].startswith(message)


@pytest.mark.parametrize("wish", [{"best_of": 2}, {"decoder_input_details": True}])
async def test_a_stream_refuses_what_it_has_no_place_for(
    make_llm: MakeLLM, wish: dict[str, Any]
) -> None:
    parameters = {"details": True, **wish}
    response = await ask(await make_llm(), "/generate_stream", parameters=parameters)
    assert response.status_code == 422
    [name] = wish
    assert f"parameters.{name}: " in json.loads(await response.get_data())["error"]
