"""How likely the tokens of a prompt are, on a model whose vocabulary makes pieces of 40 tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ml.errors import InternalError, NotReady
from ml.generation.adapters import Adapters
from ml.generation.request import SamplingParameters, Token
from ml.generation.transformers_engine import TransformersEngine
from tests.support.adapters import in_use, new_model

VOCABULARY, MAX_LENGTH = 200_000, 512
LONG = [(7 * n) % 1999 + 3 for n in range(500)]


@pytest.fixture(scope="module")
def wide_model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def engine(wide_model: Any) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(wide_model, end_tokens=[], slots=2, max_length=MAX_LENGTH)
    yield engine
    engine.close()


def require_scores(model: Any, prompt: list[int], tokens: list[Token], top: int = 0) -> None:
    with torch.inference_mode():
        logprobs = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert [token.id for token in tokens] == prompt[1:]
    for token, expected in zip(tokens, logprobs, strict=False):
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-3)
        best = expected.topk(top)
        assert [id_ for id_, _ in token.top] == best.indices.tolist()
        assert [one for _, one in token.top] == pytest.approx(best.values.tolist(), abs=1e-3)


@pytest.mark.parametrize("length", [1, 2, 40, 41, 42, 130])
async def test_scores_are_those_of_the_model(
    wide_model: Any, engine: TransformersEngine, length: int
) -> None:
    tokens = await engine.score(LONG[:length], top_logprobs=3)
    require_scores(wide_model, LONG[:length], tokens, top=3)


async def test_several_prompts_are_scored_at_once_beside_answers(
    wide_model: Any, engine: TransformersEngine
) -> None:
    async def answer() -> list[int]:
        asked = engine.generate(LONG[:50], SamplingParameters(max_new_tokens=12))
        return [step.token.id async for step in asked if step.token is not None]

    alone = await answer()
    together, *scored = await asyncio.gather(
        answer(), *(engine.score(LONG[start : start + 90]) for start in range(3))
    )
    assert together == alone
    for start, tokens in enumerate(scored):
        require_scores(wide_model, LONG[start : start + 90], tokens)


async def test_an_answer_goes_on_between_the_pieces_of_a_prompt(engine: TransformersEngine) -> None:
    """Five hundred tokens are thirteen pieces, and each of them waits for one step."""
    steps = engine.generate([3, 4], SamplingParameters(max_new_tokens=400))
    await anext(steps)
    scoring = asyncio.ensure_future(engine.score(LONG))
    made = 0
    while not scoring.done():
        await anext(steps)
        made += 1
    await steps.aclose()
    assert made >= 12


async def test_a_caller_that_leaves_ends_the_scoring(
    wide_model: Any, engine: TransformersEngine
) -> None:
    leaving = [asyncio.ensure_future(engine.score(LONG)) for _ in range(20)]
    await asyncio.sleep(0)
    for one in leaving:
        one.cancel()
    tokens = await engine.score(LONG[:9])
    assert [one.cancelled() for one in leaving] == [True] * 20
    require_scores(wide_model, LONG[:9], tokens)


async def test_a_prompt_that_cannot_be_scored_fails_alone(
    wide_model: Any, engine: TransformersEngine
) -> None:
    broken, whole = await asyncio.gather(
        engine.score([1, 10**7, 2]), engine.score(LONG[:9]), return_exceptions=True
    )
    assert isinstance(broken, IndexError)
    assert not isinstance(whole, BaseException)
    require_scores(wide_model, LONG[:9], whole)


async def test_logits_that_are_not_finite_are_no_scores() -> None:
    model = new_model()
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    engine = TransformersEngine(model, end_tokens=[], slots=1, max_length=64)
    try:
        with pytest.raises(InternalError):
            await engine.score([1, 2, 3])
    finally:
        engine.close()


async def test_a_closed_engine_scores_nothing(wide_model: Any) -> None:
    engine = TransformersEngine(wide_model, end_tokens=[], slots=1, max_length=MAX_LENGTH)
    waiting = [asyncio.ensure_future(engine.score(LONG)) for _ in range(8)]
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.close)
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(ended[-1], NotReady)
    with pytest.raises(NotReady):
        await engine.score(LONG)


async def test_an_adapter_is_used_and_given_back(
    model: Any, adapters: Adapters, root: Path
) -> None:
    engine = TransformersEngine(
        model, end_tokens=[], slots=2, max_length=MAX_LENGTH, adapters=adapters
    )
    prompt = [number % 499 for number in LONG[:60]]
    try:
        with await asyncio.to_thread(adapters.acquire, "attention") as lease:
            with_it, without = await asyncio.gather(
                engine.score(prompt, adapter=lease), engine.score(prompt)
            )
    finally:
        engine.close()
    assert in_use(adapters) == set()
    require_scores(new_model(), prompt, without)
    tuned = peft.PeftModel.from_pretrained(new_model(), str(root / "attention"))
    require_scores(tuned, prompt, with_it)
