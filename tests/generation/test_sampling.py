"""How tokens are chosen, held to the logits processors of transformers."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ml.generation.request import Finished, FinishReason, SamplingParameters, Token
from ml.generation.sampling import Sampler, choose
from ml.generation.transformers_engine import TransformersEngine

VOCABULARY, MAX_LENGTH = 900, 256
PROMPTS = [[5, 9, 2, 5], [7], list(range(3, 90)), [4, 4, 4, 4]]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def engine(model: Any) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(model, end_tokens=[], slots=4, max_length=MAX_LENGTH)
    yield engine
    engine.close()


async def answer(
    engine: TransformersEngine, prompt: list[int], **parameters: Any
) -> tuple[list[Token], Finished]:
    tokens = []
    asked = SamplingParameters(**{"max_new_tokens": 24} | parameters)
    async for step in engine.generate(prompt, asked):
        if step.token is not None:
            tokens.append(step.token)
        if step.finished is not None:
            return tokens, step.finished
    raise AssertionError("no end")


class Penalties:
    """The biases and penalties of an answer, as their documentation writes them."""

    def __init__(self, prompt: int, **parameters: Any) -> None:
        self._prompt, self._parameters = prompt, SamplingParameters(**parameters)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        given, scores = self._parameters, scores.clone()
        for token, bias in given.logit_bias.items():
            scores[0, token] += bias
        if given.repetition_penalty != 1:
            scores = RepetitionPenaltyLogitsProcessor(given.repetition_penalty)(ids, scores)
        for token, times in Counter(ids[0, self._prompt :].tolist()).items():
            scores[0, token] -= given.frequency_penalty * times + given.presence_penalty
        return scores


def reference(model: Any, prompt: list[int], **parameters: Any) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([Penalties(len(prompt), **parameters)]),
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "parameters",
    [
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.7},
        {"frequency_penalty": 0.4},
        {"frequency_penalty": -0.4, "presence_penalty": 2.0},
        {"presence_penalty": 0.9},
        {"logit_bias": {17: 5.0, 5: -100.0, 811: 3.5}},
        {"logit_bias": {17: 5.0, 9: -1.0}, "repetition_penalty": 1.2, "frequency_penalty": 0.3},
    ],
    ids=str,
)
async def test_greedy_tokens_with_penalties_are_those_of_generate(
    model: Any, engine: TransformersEngine, parameters: dict[str, Any]
) -> None:
    """Three requests with them share each step with one that has none."""
    asked = [parameters, parameters, {}, parameters]
    got = await asyncio.gather(
        *(answer(engine, prompt, **one) for prompt, one in zip(PROMPTS, asked, strict=True))
    )
    plain = [reference(model, prompt) for prompt in PROMPTS]
    expected = [reference(model, prompt, **one) for prompt, one in zip(PROMPTS, asked, strict=True)]
    assert [[token.id for token in tokens] for tokens, _ in got] == expected
    assert expected != plain


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"top_k": 7},
        {"top_p": 0.6},
        {"top_p": 0.0},
        {"min_p": 0.2},
        {"min_p": 1.0},
        {"top_k": 40, "top_p": 0.8, "min_p": 0.05},
        {"top_k": 700},  # more than are sorted at first
        {"top_p": 0.999},
        {"temperature": 5.0, "top_p": 0.97},
    ],
    ids=str,
)
def test_tokens_are_drawn_from_what_the_warpers_keep_as_often_as_they_are_likely(
    parameters: dict[str, Any],
) -> None:
    draws = 2000
    torch.manual_seed(3)
    logits = torch.randn(1, VOCABULARY) * 2
    given = SamplingParameters(**{"temperature": 0.8} | parameters)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(given.temperature)])
    if given.top_k:
        warpers.append(TopKLogitsWarper(given.top_k))
    warpers.append(TopPLogitsWarper(max(given.top_p, 1e-9)))
    warpers.append(MinPLogitsWarper(given.min_p))
    expected = warpers(torch.zeros(1, 0), logits).softmax(-1)[0].double()

    counts = torch.zeros(VOCABULARY, dtype=torch.float64)
    samplers = [
        Sampler(SamplingParameters(**{"temperature": 0.8, "seed": seed} | parameters), [])
        for seed in range(draws)
    ]
    for first in range(0, draws, 500):
        some = samplers[first : first + 500]
        for token in choose(logits.expand(len(some), -1), some):
            assert token is not None
            counts[token.id] += 1
    assert counts[expected == 0].sum() == 0
    often = expected > 0.005
    spread = (expected * (1 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() <= 5 * spread + 1e-9)[often].all()


def test_a_row_draws_the_same_in_any_company() -> None:
    torch.manual_seed(4)
    logits = torch.randn(6, VOCABULARY) * 3
    kinds: list[dict[str, Any]] = [
        {"temperature": 1.0},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 0.5, "top_k": 20, "frequency_penalty": 0.5},
        {"temperature": 2.0, "min_p": 0.1, "logit_bias": {3: 9.0}},
        {"temperature": 3.0, "top_k": 800},
        {"repetition_penalty": 1.5, "top_logprobs": 3},
    ]
    together = [Sampler(SamplingParameters(**kind, seed=5), [1, 2]) for kind in kinds]
    alone = [Sampler(SamplingParameters(**kind, seed=5), [1, 2]) for kind in kinds]
    for _ in range(5):
        got = choose(logits, together)
        single = [choose(logits[row : row + 1], [one])[0] for row, one in enumerate(alone)]
        assert [token and token.id for token in got] == [token and token.id for token in single]


@pytest.mark.parametrize("temperature", [1e-300, 1e-8])
def test_no_temperature_is_too_low(temperature: float) -> None:
    logits = torch.randn(1, VOCABULARY)
    sampler = Sampler(SamplingParameters(temperature=temperature), [])
    [token] = choose(logits, [sampler])
    assert token is not None
    assert token.id == int(logits.argmax())


async def test_probabilities_are_those_of_the_model_whatever_is_asked(
    model: Any, engine: TransformersEngine
) -> None:
    prompt = PROMPTS[2]
    tokens, _ = await answer(
        engine,
        prompt,
        temperature=1.5,
        top_k=30,
        seed=3,
        repetition_penalty=1.4,
        presence_penalty=1.0,
        logit_bias={11: 4.0},
        top_logprobs=6,
    )
    ids = [*prompt, *(token.id for token in tokens)]
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    for token, expected in zip(tokens, logprobs[len(prompt) - 1 :], strict=False):
        assert math.isclose(token.logprob, float(expected[token.id]), abs_tol=1e-4)
        best = expected.topk(6)
        assert [id_ for id_, _ in token.top] == best.indices.tolist()
        assert torch.allclose(torch.tensor([one for _, one in token.top]), best.values, atol=1e-4)


async def test_each_request_gets_as_many_alternatives_as_it_asks_for(
    engine: TransformersEngine,
) -> None:
    got = await asyncio.gather(
        answer(engine, PROMPTS[0]),
        answer(engine, PROMPTS[1], top_logprobs=2),
        answer(engine, PROMPTS[2], top_logprobs=2 * VOCABULARY),
    )
    numbers = [{len(token.top) for token in tokens} for tokens, _ in got]
    assert numbers == [{0}, {2}, {VOCABULARY}]


async def test_an_end_token_that_is_ignored_ends_nothing(model: Any) -> None:
    expected = reference(model, PROMPTS[0])
    engine = TransformersEngine(model, end_tokens=expected[3:5], slots=2, max_length=MAX_LENGTH)
    try:
        tokens, finished = await answer(engine, PROMPTS[0], ignore_eos=True)
        stopped, ended = await answer(engine, PROMPTS[0])
    finally:
        engine.close()
    assert [token.id for token in tokens] == expected
    assert finished.reason is FinishReason.LENGTH
    assert ended.reason is FinishReason.STOP
    assert len(stopped) < len(tokens)
