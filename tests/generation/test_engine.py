"""Continuous batching, on a small model with random weights in float32."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ml.errors import InternalError, NotReady
from ml.generation.request import Finished, FinishReason, SamplingParameters
from ml.generation.transformers_engine import TransformersEngine

MAX_LENGTH = 512
GREEDY = SamplingParameters(max_new_tokens=24)
PROMPTS = [[5, 9, 2], [7], list(range(3, 90)), [4, 4, 4, 4], list(range(100, 400))]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def engine(model: Any) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(model, end_tokens=[], slots=4, max_length=MAX_LENGTH)
    yield engine
    engine.close()


async def generate(
    engine: TransformersEngine, prompt: list[int], parameters: SamplingParameters = GREEDY
) -> tuple[list[int], Finished]:
    ids: list[int] = []
    async for step in engine.generate(prompt, parameters):
        if step.token is not None:
            ids.append(step.token.id)
        if step.finished is not None:
            return ids, step.finished
    raise AssertionError("no end")


def reference(model: Any, prompt: list[int], count: int = 24) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
async def test_greedy_tokens_are_those_of_generate(
    model: Any, engine: TransformersEngine, prompt: list[int]
) -> None:
    ids, finished = await generate(engine, prompt)
    assert ids == reference(model, prompt)
    assert finished == Finished(FinishReason.LENGTH, len(prompt), 24)


async def test_requests_that_join_and_leave_do_not_change_each_other(
    model: Any, engine: TransformersEngine
) -> None:
    """Nine requests on four slots, of different lengths, joining one after the other."""

    async def later(number: int) -> tuple[list[int], Finished]:
        await asyncio.sleep(number * 0.01)
        parameters = SamplingParameters(max_new_tokens=6 + 7 * (number % 4))
        return await generate(engine, PROMPTS[number % 5], parameters)

    results = await asyncio.gather(*(later(number) for number in range(9)))
    for number, (ids, finished) in enumerate(results):
        count = 6 + 7 * (number % 4)
        assert ids == reference(model, PROMPTS[number % 5], count)
        assert finished.completion_tokens == count


async def test_an_end_token_ends_the_generation(model: Any) -> None:
    expected = reference(model, PROMPTS[0])
    end = expected[5]
    engine = TransformersEngine(model, end_tokens=[end], slots=2, max_length=MAX_LENGTH)
    try:
        ids, finished = await generate(engine, PROMPTS[0])
    finally:
        engine.close()
    assert ids == expected[: expected.index(end) + 1]
    assert finished.reason is FinishReason.STOP


async def test_a_full_context_ends_the_generation(engine: TransformersEngine) -> None:
    prompt = [3] * (MAX_LENGTH - 4)
    _, finished = await generate(engine, prompt, SamplingParameters(max_new_tokens=100))
    assert finished.reason is FinishReason.LENGTH
    assert finished.completion_tokens <= 4


async def test_a_seed_gives_the_same_tokens_alone_and_in_company(
    engine: TransformersEngine,
) -> None:
    sampled = SamplingParameters(max_new_tokens=24, temperature=0.9, top_p=0.95, top_k=50, seed=7)
    alone, _ = await generate(engine, PROMPTS[0], sampled)
    others = [generate(engine, prompt) for prompt in PROMPTS[1:4]]
    (together, _), *_ = await asyncio.gather(generate(engine, PROMPTS[0], sampled), *others)
    assert alone == together
    another = SamplingParameters(max_new_tokens=24, temperature=0.9, seed=8)
    assert alone != (await generate(engine, PROMPTS[0], another))[0]


async def test_a_reader_that_leaves_frees_its_slot(model: Any, engine: TransformersEngine) -> None:
    """Twelve readers leave after two tokens, three times the slots; the next is served."""

    async def leave_early() -> None:
        events = engine.generate(PROMPTS[0], SamplingParameters(max_new_tokens=400))
        await anext(events)
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]

    async with asyncio.timeout(30):
        await asyncio.gather(*(leave_early() for _ in range(12)))
        assert (await generate(engine, PROMPTS[1]))[0] == reference(model, PROMPTS[1])


async def test_a_failing_step_fails_who_is_in_it_and_nobody_after(
    model: Any, engine: TransformersEngine
) -> None:
    _, finished = await generate(engine, [10**6])  # no such token
    assert finished.reason is FinishReason.ERROR
    assert isinstance(finished.error, Exception)
    assert (await generate(engine, PROMPTS[0]))[0] == reference(model, PROMPTS[0])


async def test_logits_that_are_not_finite_fail_that_request(model: Any) -> None:
    broken = LlamaForCausalLM(model.config).eval()
    torch.nn.init.constant_(broken.lm_head.weight, float("nan"))
    engine = TransformersEngine(broken, end_tokens=[], slots=2, max_length=64)
    try:
        _, finished = await generate(engine, PROMPTS[0])
    finally:
        engine.close()
    assert isinstance(finished.error, InternalError)


async def test_closing_the_engine_ends_what_runs(model: Any) -> None:
    engine = TransformersEngine(model, end_tokens=[], slots=2, max_length=MAX_LENGTH)
    events = engine.generate(PROMPTS[0], SamplingParameters(max_new_tokens=400))
    await anext(events)
    await asyncio.to_thread(engine.close)
    rest = [step async for step in events]
    assert rest[-1].finished is not None
    assert rest[-1].finished.reason is FinishReason.CANCELLED


async def test_a_closed_engine_refuses_instead_of_waiting_for_ever(model: Any) -> None:
    engine = TransformersEngine(model, end_tokens=[], slots=2, max_length=MAX_LENGTH)
    await asyncio.to_thread(engine.close)
    with pytest.raises(NotReady):
        await generate(engine, PROMPTS[0])
