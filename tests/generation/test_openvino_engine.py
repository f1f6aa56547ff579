"""The engine of OpenVINO, on the embedded model's GGUF."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from ml.errors import ConfigurationError, InternalError, InvalidInput, NotReady
from ml.generation.answer_form import JsonAnswer, RegexAnswer
from ml.generation.arguments import LanguageModelArguments
from ml.generation.openvino_batch import OpenVINOBatch
from ml.generation.openvino_config import config_fields
from ml.generation.openvino_engine import OpenVINOEngine
from ml.generation.request import Finished, FinishReason, Observer, SamplingParameters, Step, Token
from ml.models.causal_lm import load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.openvino_model import OpenVINOModel, load_openvino_model
from tests.support.openvino_folder import save_openvino_folder
from tests.support.requests import eventually

SLOTS, MAX_LENGTH = 4, 512
GREEDY = SamplingParameters(max_new_tokens=24)
SAMPLED = SamplingParameters(max_new_tokens=24, temperature=0.9, top_p=0.95, top_k=50, seed=7)
#: Nobody waits for its end.
LONG = SamplingParameters(max_new_tokens=MAX_LENGTH, temperature=5.0)
BEGINNINGS = {
    "The capital of France is": " Paris",
    "The capital of Italy is": " Rome",
    "Romeo and Juliet was written by William": " Shakespeare",
    "The opposite of hot is": " cold",
    "One, two, three, four,": " five, six, seven",
}

NewEngine = Callable[..., OpenVINOEngine]


class Seen(Observer):
    """Keeps what an engine tells, in its order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, float]] = []

    def taken_in(self, waited_seconds: float, known_tokens: int) -> None:
        self.events.append(("taken in", waited_seconds))

    def began(self, seconds: float, prompt_tokens: int) -> None:
        self.events.append(("began", prompt_tokens))

    def stepped(self, rows: int) -> None:
        self.events.append(("stepped", rows))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture(scope="module")
def loaded() -> OpenVINOModel:
    install()
    return load_openvino_model(EMBEDDED_LLM)


@pytest.fixture
def new_engine(loaded: OpenVINOModel) -> Iterator[NewEngine]:
    engines: list[OpenVINOEngine] = []

    def new(*, slots: int = SLOTS, **more: Any) -> OpenVINOEngine:
        arguments = LanguageModelArguments(slots=slots)
        engines.append(OpenVINOEngine(loaded, arguments, max_length=MAX_LENGTH, **more))
        engines[-1].open()
        return engines[-1]

    yield new
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def engine(loaded: OpenVINOModel) -> Iterator[OpenVINOEngine]:
    engine = OpenVINOEngine(loaded, LanguageModelArguments(slots=8), max_length=MAX_LENGTH)
    engine.open()
    yield engine
    engine.close()


def asked(loaded: OpenVINOModel, text: str) -> list[int]:
    chat = [{"role": "user", "content": text}]
    ids: list[int] = loaded.tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False
    )
    return ids


async def generate(
    engine: OpenVINOEngine, prompt: list[int], parameters: SamplingParameters = GREEDY
) -> tuple[list[Token], Finished]:
    tokens: list[Token] = []
    async with asyncio.timeout(60):
        async for step in engine.generate(prompt, parameters):
            if step.token is not None:
                tokens.append(step.token)
            if step.finished is not None:
                return tokens, step.finished
    raise AssertionError("no end")


async def ids_of(
    engine: OpenVINOEngine, prompt: list[int], parameters: SamplingParameters = GREEDY
) -> list[int]:
    return [token.id for token in (await generate(engine, prompt, parameters))[0]]


def model_processes() -> set[int]:
    """Return the processes of this process's engines."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = path.joinpath("cmdline").read_text()
        except OSError:  # it is gone
            continue
        if parent == os.getpid() and "openvino_process" in command:
            found.add(int(path.name))
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- what is generated ------------------------------------------------------------------------


@pytest.mark.parametrize(("beginning", "end"), BEGINNINGS.items())
async def test_greedy_answers_make_sense(
    engine: OpenVINOEngine, loaded: OpenVINOModel, beginning: str, end: str
) -> None:
    ids = await ids_of(engine, loaded.tokenizer(beginning).input_ids)
    assert loaded.tokenizer.decode(ids).startswith(end)


async def test_a_folder_of_openvino_is_read_without_its_own_tokenizer(
    loaded: OpenVINOModel, tmp_path: Path
) -> None:
    folder = save_openvino_folder(loaded, tmp_path / "model", with_own=False)
    model = load_openvino_model(str(folder))
    assert (model.source, model.dtype) == (folder, "openvino")
    engine = OpenVINOEngine(model, LanguageModelArguments(slots=1), max_length=64)
    engine.open()
    try:
        ids = await ids_of(engine, model.tokenizer("The capital of France is").input_ids)
        with pytest.raises(InvalidInput, match="engine transformers can"):
            engine.require_supported(SamplingParameters(form=RegexAnswer("a")))
    finally:
        engine.close()
    assert model.tokenizer.decode(ids).startswith(" Paris")


async def test_greedy_answers_are_the_same_again(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    for beginning in BEGINNINGS:
        prompt = loaded.tokenizer(beginning).input_ids
        assert await ids_of(engine, prompt) == await ids_of(engine, prompt)


async def test_answers_in_company_begin_like_those_alone(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    """Logits differ in their last bits with the company, so a close choice may fall differently."""
    prompts = [loaded.tokenizer(beginning).input_ids for beginning in BEGINNINGS]
    alone = [await ids_of(engine, prompt) for prompt in prompts]
    together = await asyncio.gather(*(ids_of(engine, prompt) for prompt in prompts))
    assert [ids[0] for ids in alone] == [ids[0] for ids in together]
    assert sum(map(list.__eq__, alone, together)) >= 3


async def test_logprobs_are_those_of_the_model(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    """Of the same model in bfloat16, within what 8 bits of weights and cache leave."""
    model: Any = load_causal_lm(EMBEDDED_LLM).model
    for beginning in BEGINNINGS:
        prompt = loaded.tokenizer(beginning).input_ids
        once = SamplingParameters(max_new_tokens=1, logprobs=True)
        tokens, _ = await generate(engine, prompt, once)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        assert tokens[0].logprob == pytest.approx(
            float(log_softmax(logits.float(), dim=-1)[tokens[0].id]), abs=0.3
        )


async def test_the_end_token_ends_an_answer(engine: OpenVINOEngine, loaded: OpenVINOModel) -> None:
    tokens, finished = await generate(
        engine, asked(loaded, "Say hello."), SamplingParameters(max_new_tokens=200)
    )
    assert tokens[-1].id in loaded.end_tokens
    assert not {token.id for token in tokens[:-1]} & set(loaded.end_tokens)
    assert finished.reason is FinishReason.STOP
    assert finished.completion_tokens == len(tokens)


async def test_no_more_tokens_come_than_are_asked_for(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    prompt = asked(loaded, "Tell me a story.")
    tokens, finished = await generate(engine, prompt, SamplingParameters(max_new_tokens=3))
    assert len(tokens) == 3
    assert finished == Finished(FinishReason.LENGTH, len(prompt), 3)


async def test_the_longest_prompt_leaves_room_for_one_token(engine: OpenVINOEngine) -> None:
    tokens, finished = await generate(engine, [504] * (MAX_LENGTH - 1))
    assert len(tokens) == 1
    assert finished == Finished(FinishReason.LENGTH, MAX_LENGTH - 1, 1)


async def test_a_seed_gives_the_same_tokens_alone_and_in_company(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    prompt = asked(loaded, "Tell me a story.")
    alone = await ids_of(engine, prompt, SAMPLED)
    assert await ids_of(engine, prompt, SAMPLED) == alone
    others = [ids_of(engine, prompt, SamplingParameters(temperature=1.0)) for _ in range(3)]
    together, *_ = await asyncio.gather(ids_of(engine, prompt, SAMPLED), *others)
    assert together[:4] == alone[:4]  # further on a close choice may fall differently
    unseeded = SamplingParameters(max_new_tokens=24, temperature=0.9)
    assert await ids_of(engine, prompt, unseeded) != await ids_of(engine, prompt, unseeded)


@pytest.mark.parametrize("likeliest", [{"top_k": 1}, {"top_p": 0.0}, {"top_p": 1e-6}], ids=str)
async def test_narrow_sampling_takes_the_likeliest_token(
    engine: OpenVINOEngine, loaded: OpenVINOModel, likeliest: dict[str, Any]
) -> None:
    prompt = asked(loaded, "What is the capital of France?")
    narrow = SamplingParameters(max_new_tokens=8, temperature=1.0, **likeliest)
    # Further on a close choice may fall differently: the second one reads the first one's cache.
    assert (await ids_of(engine, prompt, narrow))[:4] == (await ids_of(engine, prompt))[:4]


@pytest.mark.parametrize("wide", [{"top_k": 10**6}, {"seed": 2**63 - 1}, {"top_p": 1.0}], ids=str)
async def test_every_sampling_that_the_services_take_is_taken(
    engine: OpenVINOEngine, loaded: OpenVINOModel, wide: dict[str, Any]
) -> None:
    prompt = asked(loaded, "Tell me a story.")
    for temperature in (1e-6, 5.0):
        parameters = SamplingParameters(max_new_tokens=4, temperature=temperature, **wide)
        assert await ids_of(engine, prompt, parameters)


# --- who leaves, and what fails ---------------------------------------------------------------


async def test_a_reader_that_leaves_frees_its_place_within_a_step(new_engine: NewEngine) -> None:
    seen = Seen()
    engine = new_engine(slots=1, end_tokens=[], observer=seen)
    first = engine.generate([504], LONG)
    for _ in range(5):
        await anext(first)
    waiting = asyncio.create_task(generate(engine, [504]))
    for _ in range(5):
        await anext(first)
    assert seen.names().count("taken in") == 1
    before = len(seen.events)
    await first.aclose()
    await waiting
    assert seen.names()[before:].index("taken in") <= 2


async def test_two_hundred_readers_of_whom_many_leave_leave_nothing_behind(
    new_engine: NewEngine,
) -> None:
    before = model_processes()
    engine = new_engine(end_tokens=[])
    (process,) = model_processes() - before
    rng = random.Random(0)

    async def read(leaves_after: int | None, parameters: SamplingParameters) -> None:
        steps = engine.generate([rng.randrange(3, 49000) for _ in range(8)], parameters)
        await leave_after(steps, leaves_after)

    async with asyncio.timeout(120):
        await asyncio.gather(
            *(
                read(
                    rng.choice([None, 0, 1, 2]),
                    SamplingParameters(max_new_tokens=6, temperature=rng.choice([0.0, 1.0])),
                )
                for _ in range(200)
            )
        )
    await eventually(lambda: rests(process))
    assert len(await ids_of(engine, [504])) == GREEDY.max_new_tokens


async def leave_after(steps: AsyncGenerator[Step, None], count: int | None) -> None:
    """Read so many steps, or all; none at all is left while the first is waited for."""
    if count == 0:
        first = asyncio.ensure_future(anext(steps))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
    read = 0
    while count is None or read < count:
        try:
            await anext(steps)
        except StopAsyncIteration:
            return
        read += 1
    await steps.aclose()


def rests(process: int) -> bool:
    before = cpu_seconds(process)
    signal.sigtimedwait([], 0.3)
    return cpu_seconds(process) - before < 0.05


async def test_closing_the_engine_ends_what_runs_and_what_waits(new_engine: NewEngine) -> None:
    engine = new_engine(slots=1, end_tokens=[])
    running = engine.generate([504], LONG)
    await anext(running)
    waiting = asyncio.create_task(generate(engine, [504]))
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.close)
    rest = [step async for step in running]
    for finished in (rest[-1].finished, (await waiting)[1]):
        assert finished is not None
        assert finished.reason is FinishReason.CANCELLED
    with pytest.raises(NotReady):
        await generate(engine, [504])


async def test_a_dead_process_fails_who_it_ran_and_nobody_else(new_engine: NewEngine) -> None:
    before = model_processes()
    engine = new_engine(slots=1, end_tokens=[])
    (process,) = model_processes() - before
    running = engine.generate([504], LONG)
    await anext(running)
    waiting = asyncio.create_task(generate(engine, [504]))
    await asyncio.sleep(0)
    os.kill(process, signal.SIGKILL)
    rest = [step async for step in running]
    assert rest[-1].finished is not None
    assert isinstance(rest[-1].finished.error, InternalError)
    assert len((await waiting)[0]) == GREEDY.max_new_tokens
    assert len(await ids_of(engine, [504])) == GREEDY.max_new_tokens


async def test_a_process_that_keeps_too_much_of_forms_gives_way_to_another_one(
    loaded: OpenVINOModel,
) -> None:
    """The library forgets none; nobody's answer fails over it."""
    before = model_processes()
    settings = {
        "source": str(loaded.source),
        "slots": SLOTS,
        "max_length": MAX_LENGTH,
        "reuse_prefixes": True,
        "cache_gib": None,
        "most_kept_bytes": 1 << 20,
    }
    batch = OpenVINOBatch(settings)
    batch.open()
    first = model_processes() - before
    try:
        for names in ("a", "b"):
            answers = await asyncio.gather(
                *(answered(batch, loaded, f"{names}{number}") for number in range(SLOTS * 2))
            )
            assert answers == [None] * len(answers)
        await eventually(lambda: not first & model_processes())
    finally:
        batch.close()


async def answered(batch: OpenVINOBatch, loaded: OpenVINOModel, name: str) -> object:
    """Return the error of an answer with a property of this name."""
    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    parameters = replace(GREEDY, form=JsonAnswer(json.dumps(schema)))
    fields = config_fields(parameters, room=24, end_tokens=loaded.end_tokens)
    async for step in batch.run([504], fields):
        if step.finished is not None:
            return step.finished.error
    raise AssertionError("no end")


async def test_what_the_library_refuses_fails_that_request_alone(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    wrong = SamplingParameters(max_new_tokens=0)
    prompt = asked(loaded, "Say hello.")
    (_, refused), (_, answered) = await asyncio.gather(
        generate(engine, prompt, wrong), generate(engine, prompt)
    )
    assert isinstance(refused.error, InternalError)
    assert answered.error is None


def test_what_openvino_cannot_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF but nothing more")
    model = OpenVINOModel(file, None, max_length=64, vocabulary=1, positive_logits=False)
    engine = OpenVINOEngine(model, LanguageModelArguments(), max_length=64, end_tokens=[])
    with pytest.raises(ConfigurationError, match=r"broken\.gguf"):
        engine.open()
    engine.close()
