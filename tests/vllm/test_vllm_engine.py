"""The engine of vLLM beside transformers and peft, on the embedded model in float32."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM

from ml.errors import ConfigurationError, InternalError, InvalidInput, NotReady
from ml.generation.answer_form import JsonAnswer, RegexAnswer, Tag, TaggedAnswer
from ml.generation.arguments import LanguageModelArguments
from ml.generation.request import Finished, FinishReason, Observer, SamplingParameters, Step, Token
from ml.generation.vllm_engine import VLLMEngine
from ml.models.causal_lm import CausalLMOptions
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.vllm_model import VLLMModel, load_vllm_model
from tests.support.requests import eventually

SLOTS, MAX_LENGTH = 4, 256
ADAPTERS = ("first", "second")
PROMPTS = (
    "The capital of France is",
    "One, two, three, four,",
    "The opposite of hot is",
    "Romeo and Juliet was written by William",
    "def fibonacci(n):",
    "Water boils at",
)
GREEDY = SamplingParameters(max_new_tokens=24)
#: Nobody waits for its end.
LONG = SamplingParameters(max_new_tokens=MAX_LENGTH, ignore_eos=True)


class Heard(Observer):
    """What the engine told."""

    def __init__(self) -> None:
        self.known: list[int] = []
        self.first: list[int] = []
        self.rows: list[int] = []

    def taken_in(self, waited_seconds: float, known_tokens: int) -> None:
        assert waited_seconds >= 0
        self.known.append(known_tokens)

    def began(self, seconds: float, prompt_tokens: int) -> None:
        self.first.append(prompt_tokens)

    def stepped(self, rows: int) -> None:
        self.rows.append(rows)


@pytest.fixture(scope="module")
def reference() -> Any:
    """A model of peft with adapters that change what it answers."""
    model = AutoModelForCausalLM.from_pretrained(install(), dtype=torch.float32)
    model.generation_config.eos_token_id = None
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(model, config, adapter_name=ADAPTERS[0])
    for name in ADAPTERS[1:]:
        tuned.add_adapter(name, config)
    torch.manual_seed(0)
    for name, values in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.2)
    return tuned.eval()


@pytest.fixture(scope="module")
def folder(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    reference.save_pretrained(root, save_embedding_layers=False)
    return root


@pytest.fixture(scope="module")
def model() -> VLLMModel:
    install()
    return load_vllm_model(EMBEDDED_LLM, CausalLMOptions())


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def engine(model: VLLMModel, folder: Path, heard: Heard) -> Iterator[VLLMEngine]:
    arguments = LanguageModelArguments.model_validate(
        {
            "engine": "vllm",
            "dtype": "float32",
            "slots": SLOTS,
            "adapters_path": str(folder),
            "max_adapters": 2,
            "max_adapter_rank": 8,
        }
    )
    running = VLLMEngine(
        model.source,
        arguments,
        end_tokens=model.end_tokens,
        max_length=MAX_LENGTH,
        observer=heard,
    )
    yield running
    running.close()


async def answered(
    engine: VLLMEngine,
    prompt: Sequence[int],
    parameters: SamplingParameters = GREEDY,
    adapter: str | None = None,
) -> tuple[list[Token], Finished]:
    if adapter is None:
        steps = [step async for step in engine.generate(prompt, parameters)]
    else:
        assert engine.adapters is not None
        async with engine.adapters.hold(adapter) as lease:
            steps = [step async for step in engine.generate(prompt, parameters, lease)]
    assert all(step.finished is None for step in steps[:-1])
    assert steps[-1].finished is not None
    return [step.token for step in steps if step.token is not None], steps[-1].finished


def ids_of(tokens: Sequence[Token]) -> list[int]:
    return [token.id for token in tokens]


@torch.inference_mode()
def expected(reference: Any, prompt: list[int], adapter: str | None, tokens: int = 24) -> list[int]:
    ids = torch.tensor([prompt])
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": tokens}
    if adapter is None:
        with reference.disable_adapter():
            made = reference.generate(ids, **given)
    else:
        reference.set_adapter(adapter)
        made = reference.generate(ids, **given)
    return [int(token) for token in made[0, len(prompt) :]]


@torch.inference_mode()
def logprobs(reference: Any, ids: list[int]) -> torch.Tensor:
    with reference.disable_adapter():
        return log_softmax(reference(torch.tensor([ids])).logits[0], dim=-1)


async def test_greedy_tokens_in_one_batch_are_those_of_generate(
    engine: VLLMEngine, model: VLLMModel, reference: Any
) -> None:
    prompts = [model.tokenizer(text).input_ids for text in PROMPTS]
    unending = SamplingParameters(max_new_tokens=24, ignore_eos=True)
    answers = await asyncio.gather(*(answered(engine, prompt, unending) for prompt in prompts))
    for prompt, (tokens, finished) in zip(prompts, answers, strict=True):
        assert ids_of(tokens) == expected(reference, prompt, None)
        assert finished == Finished(FinishReason.LENGTH, len(prompt), 24)


async def test_adapters_are_mixed_in_one_batch_as_peft_answers_with_each(
    engine: VLLMEngine, model: VLLMModel, reference: Any
) -> None:
    prompts = [model.tokenizer(text).input_ids for text in PROMPTS[:3]]
    names = (None, *ADAPTERS)
    unending = SamplingParameters(max_new_tokens=12, ignore_eos=True)
    asked = list(zip(prompts, names, strict=True))
    answers = await asyncio.gather(
        *(answered(engine, prompt, unending, name) for prompt, name in asked)
    )
    wanted = [expected(reference, prompt, name, 12) for prompt, name in asked]
    assert [ids_of(tokens) for tokens, _ in answers] == wanted
    assert wanted[1] != expected(reference, prompts[1], None, 12)


async def test_an_adapter_that_cannot_be_served_is_refused_without_its_path(
    engine: VLLMEngine, folder: Path
) -> None:
    assert engine.adapters is not None
    (folder / "other").mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / "other" / file).write_bytes((folder / "first" / file).read_bytes())
    config = json.loads((folder / "first" / "adapter_config.json").read_text())
    (folder / "other" / "adapter_config.json").write_text(json.dumps(config | {"r": 16}))
    with pytest.raises(InvalidInput, match="its rank is 16; at most 8 is served"):
        engine.adapters.acquire("other")
    (folder / "other" / "adapter_config.json").write_text(json.dumps(config))
    (folder / "other" / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InvalidInput, match="'other'") as refused:
        engine.adapters.acquire("other")
    assert str(folder) not in str(refused.value)
    tokens, _ = await answered(engine, [1, 2, 3], adapter="first")
    assert tokens


async def test_what_is_chosen_is_told_with_the_models_own_probabilities(
    engine: VLLMEngine, model: VLLMModel, reference: Any
) -> None:
    prompt = model.tokenizer(PROMPTS[0]).input_ids
    parameters = SamplingParameters(
        max_new_tokens=6,
        logprobs=True,
        top_logprobs=3,
        presence_penalty=2.0,
        repetition_penalty=1.5,
    )
    tokens, _ = await answered(engine, prompt, parameters)
    table = logprobs(reference, prompt + ids_of(tokens))[len(prompt) - 1 :]
    for token, row in zip(tokens, table[:-1], strict=True):
        values, ids = row.topk(3)
        assert [id_ for id_, _ in token.top] == ids.tolist()
        assert [value for _, value in token.top] == pytest.approx(values.tolist(), abs=1e-3)
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-3)


async def test_a_prompt_is_scored_token_by_token(
    engine: VLLMEngine, model: VLLMModel, reference: Any
) -> None:
    prompt = model.tokenizer("The capital of France is Paris.").input_ids
    for _ in range(2):  # the second time its beginning is known
        scores = await engine.score(prompt, top_logprobs=2)
        table = logprobs(reference, prompt)[:-1]
        assert ids_of(scores) == prompt[1:]
        for score, row in zip(scores, table, strict=True):
            assert score.logprob == pytest.approx(float(row[score.id]), abs=1e-3)
            assert [id_ for id_, _ in score.top] == row.topk(2).indices.tolist()


async def test_the_same_seed_gives_the_same_answer_and_another_one_another(
    engine: VLLMEngine, model: VLLMModel
) -> None:
    prompt = model.tokenizer("A story:").input_ids

    def sampled(seed: int) -> SamplingParameters:
        return SamplingParameters(max_new_tokens=16, temperature=1.0, top_p=0.95, seed=seed)

    answers = [ids_of((await answered(engine, prompt, sampled(seed)))[0]) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(max_new_tokens=8, temperature=2.0, min_p=1.0),
        SamplingParameters(max_new_tokens=8, temperature=2.0, top_k=1),
        SamplingParameters(max_new_tokens=8, temperature=2.0, top_p=0.0),
        SamplingParameters(max_new_tokens=8, temperature=1e-20),
    ],
    ids=["min_p", "top_k", "top_p", "temperature"],
)
async def test_what_leaves_one_token_takes_the_likeliest(
    engine: VLLMEngine, model: VLLMModel, parameters: SamplingParameters
) -> None:
    prompt = model.tokenizer(PROMPTS[1]).input_ids
    greedy, _ = await answered(engine, prompt, SamplingParameters(max_new_tokens=8))
    assert ids_of((await answered(engine, prompt, parameters))[0]) == ids_of(greedy)


async def test_biases_and_penalties_change_what_is_chosen(
    engine: VLLMEngine, model: VLLMModel
) -> None:
    prompt = model.tokenizer("One, two, three, one, two, three, one, two, three,").input_ids
    biased = SamplingParameters(max_new_tokens=4, logit_bias={42: 100.0})
    assert ids_of((await answered(engine, prompt, biased))[0]) == [42] * 4
    plain = ids_of((await answered(engine, prompt))[0])
    for penalty in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
        given = SamplingParameters(max_new_tokens=24, **{penalty: 2.0})
        changed = ids_of((await answered(engine, prompt, given))[0])
        assert len(set(changed)) > len(set(plain)), penalty


async def test_an_end_token_ends_the_answer_unless_it_is_ignored(
    engine: VLLMEngine, model: VLLMModel
) -> None:
    prompt = model.tokenizer("Hello").input_ids
    end = model.end_tokens[0]
    tokens, finished = await answered(
        engine, prompt, SamplingParameters(max_new_tokens=8, logit_bias={end: 100.0})
    )
    assert ids_of(tokens) == [end]
    assert finished == Finished(FinishReason.STOP, len(prompt), 1)
    _, finished = await answered(
        engine,
        prompt,
        SamplingParameters(max_new_tokens=8, logit_bias={end: 100.0}, ignore_eos=True),
    )
    assert finished == Finished(FinishReason.LENGTH, len(prompt), 8)


async def test_an_answer_ends_where_the_context_is_full(engine: VLLMEngine) -> None:
    prompt = [5] * (MAX_LENGTH - 3)
    _, finished = await answered(engine, prompt, LONG)
    assert finished == Finished(FinishReason.LENGTH, len(prompt), 3)


async def test_an_answer_has_the_form_that_was_asked_for(
    engine: VLLMEngine, model: VLLMModel
) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "year": {"type": "integer"}},
        "required": ["city", "year"],
        "additionalProperties": False,
    }
    argument = {"a": {"type": "integer", "maximum": 9}}
    closed = {"type": "object", "properties": argument, "required": ["a"]}
    inner = json.dumps(closed | {"additionalProperties": False})
    call = Tag("<tool_call>", inner, "</tool_call>")
    forms = {
        "json": JsonAnswer(json.dumps(schema)),
        "regex": RegexAnswer("(yes|no), [0-9]{3}"),
        "tags": TaggedAnswer("<tool_call>", (call,), required=True, several=False),
    }
    prompt = model.tokenizer("What is it?").input_ids
    texts = {}
    for name, form in forms.items():
        parameters = SamplingParameters(max_new_tokens=64, form=form)
        engine.require_supported(parameters)
        tokens, finished = await answered(engine, prompt, parameters)
        assert finished.reason is FinishReason.STOP, name
        texts[name] = model.tokenizer.decode(ids_of(tokens), skip_special_tokens=True)
    assert json.loads(texts["json"])["city"] in ("Paris", "Rome")
    assert texts["regex"].split(", ")[0] in ("yes", "no")
    inside = texts["tags"].removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(inside).keys() == {"a"}


def test_what_vllm_refuses_is_told_with_an_engine_that_does_not(engine: VLLMEngine) -> None:
    with pytest.raises(InvalidInput, match=r"temperature must be in \[0, 2\].*transformers can"):
        engine.require_supported(SamplingParameters(temperature=5.0))


@pytest.mark.parametrize(
    "form", [JsonAnswer("nothing"), JsonAnswer('{"type": "thing"}'), RegexAnswer("(")], ids=str
)
def test_a_form_that_no_answer_can_have_is_refused(engine: VLLMEngine, form: Any) -> None:
    with pytest.raises(InvalidInput):
        engine.require_supported(SamplingParameters(form=form))


async def test_a_cancelled_request_frees_its_place_within_a_step(
    engine: VLLMEngine, model: VLLMModel
) -> None:
    prompt = model.tokenizer("A very long list of words:").input_ids
    streams = [engine.generate(prompt, LONG) for _ in range(SLOTS)]
    for stream in streams:
        assert (await anext(stream)).token is not None
    waiting = asyncio.create_task(answered(engine, prompt, SamplingParameters(max_new_tokens=1)))
    for stream in streams:
        await stream.aclose()
    tokens, _ = await asyncio.wait_for(waiting, 10)
    assert len(tokens) == 1


def test_requests_may_come_from_any_loop(engine: VLLMEngine, model: VLLMModel) -> None:
    prompt = model.tokenizer(PROMPTS[0]).input_ids
    answers: list[list[int]] = []

    def ask() -> None:
        answers.append(ids_of(asyncio.run(answered(engine, prompt))[0]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3
    assert answers[0] == answers[1] == answers[2]


async def test_the_observer_hears_of_first_and_of_further_tokens(
    engine: VLLMEngine, model: VLLMModel, heard: Heard
) -> None:
    prompt = model.tokenizer("Tell me of the sea. " * 30).input_ids
    await answered(engine, prompt)  # a whole block of it is known then
    for told in (heard.known, heard.first, heard.rows):
        told.clear()
    _, finished = await answered(engine, prompt)
    assert heard.first == [len(prompt)]
    assert heard.known[0] > 0
    await eventually(lambda: sum(heard.rows) == finished.completion_tokens - 1)


async def test_after_its_process_ended_running_requests_fail_and_the_next_is_answered(
    engine: VLLMEngine, model: VLLMModel
) -> None:
    prompt = model.tokenizer(PROMPTS[0]).input_ids
    before = ids_of((await answered(engine, prompt))[0])
    stream = engine.generate(prompt, LONG)
    await anext(stream)
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    failed = await last_of(stream)
    assert failed.finished is not None
    assert isinstance(failed.finished.error, InternalError)
    assert ids_of((await answered(engine, prompt))[0]) == before
    tuned, _ = await answered(engine, prompt, adapter="first")
    assert ids_of(tuned) != before


async def last_of(stream: AsyncGenerator[Step, None]) -> Step:
    return [step async for step in stream][-1]


def children() -> list[int]:
    """Return the processes of vLLM's engine."""
    listing = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if "EngineCore" in line]


async def test_closing_ends_what_runs_and_the_processes(model: VLLMModel) -> None:
    before = set(children())
    arguments = LanguageModelArguments.model_validate({"engine": "vllm", "slots": 2})
    engine = VLLMEngine(model.source, arguments, end_tokens=model.end_tokens, max_length=MAX_LENGTH)
    stream = engine.generate([1, 2, 3], LONG)
    await anext(stream)
    await asyncio.to_thread(engine.close)
    ended = await last_of(stream)
    assert ended.finished is not None
    assert ended.finished.reason is FinishReason.CANCELLED
    with pytest.raises(NotReady):
        await answered(engine, [1, 2, 3])
    await eventually(lambda: set(children()) == before)


def test_what_vllm_cannot_run_is_told(tmp_path: Path, model: VLLMModel) -> None:
    arguments = LanguageModelArguments.model_validate({"engine": "vllm"})
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["Other"]}')
    with pytest.raises(ConfigurationError, match="vLLM cannot run this model"):
        VLLMEngine(str(tmp_path), arguments, end_tokens=[0], max_length=MAX_LENGTH)
