"""Prompts that begin as others did: read once, and answered as if they had been read whole."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from ml.generation.request import Observer, SamplingParameters
from ml.generation.transformers_engine import TransformersEngine
from tests.generation.test_engine import MAX_LENGTH, generate, reference

SYSTEM = list(range(50, 90))


class Known(Observer):
    """Remembers how many tokens of each prompt were known."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def taken_in(self, waited_seconds: float, known_tokens: int) -> None:
        self.tokens.append(known_tokens)


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def engine(model: Any, known: Known) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(
        model, end_tokens=[], slots=4, max_length=MAX_LENGTH, observer=known
    )
    yield engine
    engine.close()


async def test_a_conversation_is_not_read_again(
    model: Any,
    engine: TransformersEngine,
    known: Known,
) -> None:
    prompt = [*SYSTEM, 7, 8]
    for _ in range(3):
        answer, _ = await generate(engine, prompt)
        assert answer == reference(model, prompt)
        prompt = [*prompt, *answer, 5, 6]
    # All but the answer's last token, which nobody read, and what the client added.
    assert known.tokens == [0, len(SYSTEM) + 2 + 23, len(SYSTEM) + 2 + 24 + 2 + 23]


async def test_the_same_prompt_is_read_from_its_last_token(
    model: Any,
    engine: TransformersEngine,
    known: Known,
) -> None:
    prompt = [*SYSTEM, 3]
    first, _ = await generate(engine, prompt)
    second, _ = await generate(engine, prompt)
    assert first == second == reference(model, prompt)
    assert known.tokens == [0, len(SYSTEM)]


async def test_conversations_in_turns_keep_their_rows_while_there_are_enough(
    model: Any,
    engine: TransformersEngine,
    known: Known,
) -> None:
    prompts = [[number, *SYSTEM] for number in range(4)]
    for _ in range(2):
        for prompt in prompts:
            assert (await generate(engine, prompt))[0] == reference(model, prompt)
    assert known.tokens == [0, 0, 0, 0, *[len(SYSTEM)] * 4]
    await generate(engine, [9, *SYSTEM])  # takes the row that was not used for longest
    for prompt in prompts[1:]:
        await generate(engine, prompt)
    assert known.tokens[8:] == [0, *[len(SYSTEM)] * 3]


async def test_it_can_be_switched_off(model: Any, known: Known) -> None:
    engine = TransformersEngine(
        model,
        end_tokens=[],
        slots=2,
        max_length=MAX_LENGTH,
        observer=known,
        reuse_prefixes=False,
    )
    try:
        for _ in range(2):
            assert (await generate(engine, SYSTEM))[0] == reference(model, SYSTEM)
    finally:
        engine.close()
    assert known.tokens == [0, 0]


async def test_a_crowd_of_conversations_that_come_and_go_is_answered_right(
    model: Any,
    engine: TransformersEngine,
    known: Known,
) -> None:
    """Six clients on four slots go on with their conversations; some leave in the middle."""
    chance = random.Random(4)

    async def converse(number: int) -> None:
        prompt = [*SYSTEM, number]
        for _ in range(3):
            await asyncio.sleep(chance.random() / 50)
            if chance.random() < 0.3:
                steps = engine.generate(prompt, SamplingParameters(max_new_tokens=100))
                for _ in range(chance.randrange(4)):
                    await anext(steps)
                await steps.aclose()
            parameters = SamplingParameters(max_new_tokens=chance.randrange(4, 20))
            answer, _ = await generate(engine, prompt, parameters)
            assert answer == reference(model, prompt, parameters.max_new_tokens)
            prompt = [*prompt, *answer, chance.randrange(100)]

    await asyncio.gather(*(converse(number) for number in range(6)))
    assert sum(known.tokens) > len(known.tokens) * len(SYSTEM) / 2


LONG = [number % 497 for number in range(400)]


async def test_prompts_at_once_that_begin_alike_are_read_once(
    model: Any,
    engine: TransformersEngine,
    known: Known,
) -> None:
    """As the answers to one prompt do, and conversations about the same document."""
    prompts = [LONG, LONG, [*LONG[:300], 7, 8, 9], LONG, [3, 4, 5], LONG]
    answers = await asyncio.gather(*(generate(engine, prompt) for prompt in prompts))
    assert [ids for ids, _ in answers] == [reference(model, prompt) for prompt in prompts]
    assert known.tokens == [0, 399, 300, 399, 0, 399]


async def test_who_waits_for_a_beginning_does_not_wait_for_one_that_left(
    model: Any,
    engine: TransformersEngine,
) -> None:
    first = asyncio.ensure_future(generate(engine, LONG))
    others = [asyncio.ensure_future(generate(engine, LONG)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*others)
    assert [ids for ids, _ in answers] == [reference(model, LONG)] * 2


async def test_prompts_at_once_are_read_whole_where_beginnings_are_not_reused(
    model: Any, known: Known
) -> None:
    engine = TransformersEngine(
        model,
        end_tokens=[],
        slots=4,
        max_length=MAX_LENGTH,
        observer=known,
        reuse_prefixes=False,
    )
    try:
        await asyncio.gather(*(generate(engine, LONG) for _ in range(3)))
    finally:
        engine.close()
    assert known.tokens == [0, 0, 0]
