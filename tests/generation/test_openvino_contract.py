"""What requests may ask of the engine of OpenVINO: penalties, forms of answers, scores."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from ml.errors import InvalidInput
from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer, Tag, TaggedAnswer
from ml.generation.arguments import LanguageModelArguments
from ml.generation.openvino_engine import OpenVINOEngine
from ml.generation.request import Finished, FinishReason, SamplingParameters, Token
from ml.models.causal_lm import CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.openvino_model import OpenVINOModel, load_openvino_model
from tests.support.openvino_folder import save_openvino_folder

MAX_LENGTH = 512
GREEDY = SamplingParameters(max_new_tokens=24)
TEXTS = (
    "Once upon a time there was a",
    "The history of the city of London begins",
    "A good recipe for bread needs flour, water,",
)
PERSON = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
CITY = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
)
NESTED = json.dumps(
    {
        "$defs": {
            "Kind": {"enum": ["cat", "dog", None]},
            "Animal": {
                "type": "object",
                "properties": {
                    "kind": {"$ref": "#/$defs/Kind"},
                    "legs": {"type": "integer", "minimum": 0, "maximum": 8},
                    "young": {"type": "array", "items": {"$ref": "#/$defs/Animal"}, "maxItems": 1},
                },
                "required": ["kind", "legs"],
            },
        },
        "$ref": "#/$defs/Animal",
    }
)
CALL = TaggedAnswer("<tool_call>", (Tag("<tool_call>", CITY, "</tool_call>"),), required=True)
DEEP = '{"type":"array","items":' * 3000 + "{}" + "}" * 3000


@pytest.fixture(scope="module")
def loaded() -> OpenVINOModel:
    install()
    return load_openvino_model(EMBEDDED_LLM)


@pytest.fixture(scope="module")
def engine(loaded: OpenVINOModel) -> Iterator[OpenVINOEngine]:
    engine = OpenVINOEngine(loaded, LanguageModelArguments(slots=8), max_length=MAX_LENGTH)
    engine.open()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def exact() -> Any:
    """The model in float32."""
    return load_causal_lm(EMBEDDED_LLM, CausalLMOptions(dtype="float32")).model


async def generate(
    engine: OpenVINOEngine, prompt: list[int], parameters: SamplingParameters = GREEDY
) -> tuple[list[Token], Finished]:
    await asyncio.to_thread(engine.require_supported, parameters)
    tokens: list[Token] = []
    async with asyncio.timeout(60):
        async for step in engine.generate(prompt, parameters):
            if step.token is not None:
                tokens.append(step.token)
            if step.finished is not None:
                return tokens, step.finished
    raise AssertionError("no end")


async def text_of(
    engine: OpenVINOEngine, loaded: OpenVINOModel, text: str, **parameters: Any
) -> str:
    asked = [{"role": "user", "content": text}]
    ids = loaded.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    tokens, finished = await generate(engine, ids, SamplingParameters(**parameters))
    assert finished.error is None
    return str(loaded.tokenizer.decode([token.id for token in tokens], skip_special_tokens=True))


# --- penalties --------------------------------------------------------------------------------

PENALTIES = (
    {"repetition_penalty": 1.3},
    {"frequency_penalty": 1.5},
    {"presence_penalty": 1.5},
    {"frequency_penalty": -0.5},
    {"repetition_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": 0.5},
)


def agreement(
    model: Any, prompt: list[int], made: list[int], parameters: SamplingParameters
) -> float:
    """Return for which part of the tokens the model would have taken the same, by the contract."""
    from transformers import RepetitionPenaltyLogitsProcessor

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + made])).logits[0].float()
    penalise = RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty)
    same = 0
    for place, token in enumerate(made):
        before = torch.tensor([prompt + made[:place]])
        row = penalise(before, logits[len(prompt) + place - 1][None].clone())[0]
        counts = torch.bincount(torch.tensor(made[:place], dtype=torch.long), minlength=len(row))
        row -= parameters.frequency_penalty * counts
        row -= parameters.presence_penalty * (counts > 0)
        same += int(row.argmax()) == token
    return same / len(made)


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
async def test_penalised_tokens_are_those_of_the_model_in_float32(
    engine: OpenVINOEngine, loaded: OpenVINOModel, exact: Any, penalties: dict[str, float]
) -> None:
    """In nine of ten places, which is what 8 bits of weights leave; not so without penalties."""
    parameters = replace(GREEDY, **penalties)
    with_them, without = 0.0, 0.0
    for text in TEXTS:
        prompt = loaded.tokenizer(text).input_ids
        made = [token.id for token in (await generate(engine, prompt, parameters))[0]]
        with_them += agreement(exact, prompt, made, parameters) / len(TEXTS)
        without += agreement(exact, prompt, made, GREEDY) / len(TEXTS)
    assert with_them >= 0.9
    assert without < with_them


async def test_min_p_keeps_what_is_likely_enough(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    prompt = loaded.tokenizer(TEXTS[0]).input_ids
    greedy = [token.id for token in (await generate(engine, prompt))[0]]
    narrow = replace(GREEDY, temperature=1.0, min_p=0.999)
    # Further on a close choice may fall differently: the second one reads the first one's cache.
    for parameters in (narrow, replace(narrow, min_p=1.0)):
        made = [token.id for token in (await generate(engine, prompt, parameters))[0]]
        assert made[:4] == greedy[:4]


async def test_the_end_of_the_turn_can_be_ignored(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    text = "<|im_start|>assistant\nHello! How can I help you today?"
    prompt = loaded.tokenizer(text).input_ids
    assert (await generate(engine, prompt))[1].reason is FinishReason.STOP
    tokens, finished = await generate(engine, prompt, replace(GREEDY, ignore_eos=True))
    assert finished.reason is FinishReason.LENGTH
    assert len(tokens) == GREEDY.max_new_tokens
    assert {token.id for token in tokens[:-1]} & set(loaded.end_tokens)


@pytest.mark.parametrize(
    "parameters", [{"logit_bias": {5: 1.0}}, {"top_logprobs": 2}], ids=lambda p: next(iter(p))
)
def test_what_the_library_has_no_way_for_is_refused_with_the_engine_that_has(
    engine: OpenVINOEngine, parameters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="engine transformers can"):
        engine.require_supported(SamplingParameters(**parameters))


# --- forms ------------------------------------------------------------------------------------


async def test_forms_penalties_and_free_text_run_in_one_batch(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    person, digits, call, free, sampled = await asyncio.gather(
        text_of(engine, loaded, "Describe a person.", form=JsonAnswer(PERSON)),
        text_of(engine, loaded, "When was it?", form=RegexAnswer(r"[12][0-9]{3}-[0-9]{2}")),
        text_of(engine, loaded, "What is the weather in Rome?", form=CALL),
        text_of(engine, loaded, "Tell me a story.", max_new_tokens=60, presence_penalty=1.0),
        text_of(engine, loaded, "Any JSON!", form=JsonAnswer(PERSON), temperature=1.0, seed=3),
    )
    for answer in (person, sampled):
        assert set(json.loads(answer)) == {"name", "age"}
    assert re.fullmatch(r"[12][0-9]{3}-[0-9]{2}", digits)
    found = re.match(r"<tool_call>(.*?)</tool_call>", call, re.DOTALL)
    assert found
    assert json.loads(found[1])["city"] in ("Paris", "Rome")
    assert len(free) > 60


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        (replace(CALL, several=False), r"<tool_call>[^<]*</tool_call>"),
        (CALL, r"<tool_call>[^<]*</tool_call>.*"),
        (replace(CALL, required=False), r".*"),
    ],
    ids=["one call", "a call first", "a call or none"],
)
async def test_calls_are_held_to_their_number(
    engine: OpenVINOEngine, loaded: OpenVINOModel, form: AnswerForm, pattern: str
) -> None:
    answer = await text_of(engine, loaded, "What is the weather?", form=form, max_new_tokens=60)
    assert re.fullmatch(pattern, answer, re.DOTALL)


async def test_json_has_no_empty_lines(engine: OpenVINOEngine, loaded: OpenVINOModel) -> None:
    """Small models fill JSON with them where a grammar lets them."""
    asked = (
        text_of(engine, loaded, "Describe Ann.", form=JsonAnswer(schema), max_new_tokens=64)
        for schema in ("{}", '{"type": "object"}', PERSON, NESTED)
    )
    for answer in await asyncio.gather(*asked):
        assert answer[0] in '{["-0123456789tfn'
        assert not re.search(r"\n\s*\n|  [:,]", answer)


async def test_an_answer_of_a_form_ends_with_it_although_the_end_is_ignored(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    answer = await text_of(engine, loaded, "Who are you?", form=JsonAnswer(PERSON), ignore_eos=True)
    assert set(json.loads(answer)) == {"name", "age"}


HOSTILE: dict[str, AnswerForm] = {
    "no JSON": JsonAnswer("nope"),
    "a type that is a number": JsonAnswer('{"type": 5}'),
    "a type that is none": JsonAnswer('{"type": "frob"}'),
    "a schema that forbids all": JsonAnswer("false"),
    "a reference to nothing": JsonAnswer('{"$ref": "#/$defs/nothing"}'),
    "a reference to itself": JsonAnswer('{"$ref": "#"}'),
    "a choice of nothing": JsonAnswer('{"enum": []}'),
    "a lone half of a character": JsonAnswer('{"enum": ["\\ud800"]}'),
    "a pattern that is none": JsonAnswer('{"type": "string", "pattern": "("}'),
    "bounds that exclude all": JsonAnswer('{"type": "integer", "minimum": 5, "maximum": 3}'),
    "a thousand million characters": JsonAnswer('{"type": "string", "maxLength": 1000000000}'),
    "a megabyte": JsonAnswer(json.dumps({"enum": ["x" * 2**20]})),
    "lists in lists": JsonAnswer(DEEP[:65_000]),
    "lists in lists that end": JsonAnswer('{"type":"array","items":' * 1500 + "{}" + "}" * 1500),
    "two schemas at once": JsonAnswer('{"allOf": [{"type": "string"}, {"minLength": 2}]}'),
    "a value of another type": JsonAnswer('{"type": "string", "enum": [1, 2]}'),
    "what must not be": JsonAnswer('{"not": {"type": "string"}}'),
    "items that differ": JsonAnswer('{"type": "array", "uniqueItems": true}'),
    "a pattern with a length": JsonAnswer('{"type": "string", "pattern": "a", "minLength": 3}'),
    "a schema elsewhere": JsonAnswer('{"$ref": "file:///etc/passwd"}'),
    "an open bracket": RegexAnswer("("),
    "brackets in brackets": RegexAnswer("(" * 20_000 + "a" + ")" * 20_000),
    "a repetition of repetitions": RegexAnswer("(((a{1,1000}){1,1000}){1,1000}){1,1000}"),
    "a long text with a rest": RegexAnswer("(.{0,5000}a){1,5000}"),
    "no character": RegexAnswer("[]"),
    "a look ahead": RegexAnswer("(?=a)b"),
    "no character in other words": RegexAnswer(r"a[^\s\S]"),
    "a beginning in the middle": RegexAnswer("a^b"),
    "a pattern that matches nothing": JsonAnswer('{"type": "string", "pattern": "a$b"}'),
    "a tool's pattern that matches nothing": TaggedAnswer(
        "<t>", (Tag("<t>", '{"type": "string", "pattern": "[^\\\\s\\\\S]"}', "</t>"),)
    ),
    "tools without a schema": TaggedAnswer("<t>", (Tag("<t>", "nope", "</t>"),)),
    "tools that the trigger does not begin": TaggedAnswer("<t>", (Tag("<u>", "{}", "</u>"),)),
}


def test_forms_that_no_answer_can_have_are_refused_and_hurt_nobody(
    engine: OpenVINOEngine,
) -> None:
    """Each in seconds, whatever it does to the process that tries it."""
    refused = {}
    for name, form in HOSTILE.items():
        with pytest.raises(InvalidInput) as caught:
            engine.require_supported(SamplingParameters(form=form))
        refused[name] = str(caught.value)
    for name, why in refused.items():
        assert re.match(r"(JSON schema|regular expression|their schemas): .", why), name
        assert not re.search(r"\.cc|/home|jenkins", why), name
    engine.require_supported(SamplingParameters(form=JsonAnswer(PERSON)))


@pytest.mark.parametrize(
    "schema",
    [
        "{}",
        "true",
        '{"foo": "unknown"}',
        '{"type": "object"}',
        '{"type": "string", "format": "frob"}',
        '{"$defs": {"a": {"type": "integer"}}, "$ref": "#/$defs/a"}',
        '{"type": "object", "properties": {"next": {"$ref": "#"}}}',
    ],
)
def test_schemas_that_say_little_are_taken(engine: OpenVINOEngine, schema: str) -> None:
    engine.require_supported(SamplingParameters(form=JsonAnswer(schema)))


# --- scores -----------------------------------------------------------------------------------


async def test_a_prompt_is_scored_as_the_model_does_also_while_others_are_answered(
    engine: OpenVINOEngine, loaded: OpenVINOModel, exact: Any
) -> None:
    ids = loaded.tokenizer(" ".join(TEXTS) * 10).input_ids
    with torch.inference_mode():
        logits = exact(input_ids=torch.tensor([ids])).logits[0]
    rows = log_softmax(logits.float(), dim=-1)
    expected = [float(rows[place, id_]) for place, id_ in enumerate(ids[1:])]
    others = [generate(engine, [504 + number]) for number in range(4)]
    scored, again, *_ = await asyncio.gather(engine.score(ids), engine.score(ids[:50]), *others)
    assert [token.id for token in scored] == ids[1:]
    differences = [abs(t.logprob - e) for t, e in zip(scored, expected, strict=True)]
    assert sum(differences) / len(differences) < 0.1
    assert [t.id for t in again] == ids[1:50]
    assert again[10].logprob == pytest.approx(scored[10].logprob, abs=0.1)
    assert await engine.score(ids[:1]) == []


async def test_alternatives_in_a_prompt_are_refused_with_the_engine_that_has_them(
    engine: OpenVINOEngine,
) -> None:
    with pytest.raises(InvalidInput, match="engine transformers can"):
        await engine.score([504, 504], top_logprobs=2)


async def test_a_logprob_is_there_where_it_is_asked_for(
    engine: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    prompt = loaded.tokenizer(TEXTS[0]).input_ids
    for asked in (False, True):
        tokens, _ = await generate(engine, prompt, replace(GREEDY, logprobs=asked))
        assert {math.isfinite(token.logprob) for token in tokens} == {asked}


async def test_logprobs_are_those_before_temperature_penalties_and_form(
    engine: OpenVINOEngine, loaded: OpenVINOModel, exact: Any
) -> None:
    prompt = loaded.tokenizer(TEXTS[0]).input_ids
    changed = SamplingParameters(
        logprobs=True,
        max_new_tokens=12, temperature=2.0, top_k=20, seed=5, repetition_penalty=1.3,
        form=RegexAnswer("[a-z ]+"),
    )  # fmt: skip
    tokens, _ = await generate(engine, prompt, changed)
    made = [token.id for token in tokens]
    with torch.inference_mode():
        logits = exact(input_ids=torch.tensor([prompt + made])).logits[0, len(prompt) - 1 :]
    rows = log_softmax(logits.float(), dim=-1)
    differences = [abs(t.logprob - float(rows[n, t.id])) for n, t in enumerate(tokens)]
    assert sum(differences) / len(differences) < 0.3


# --- guesses ----------------------------------------------------------------------------------

COPIED = (
    "Repeat the text exactly.\nText: Alice was beginning to get very tired of sitting by her "
    "sister on the bank, and of having nothing to do: once or twice she had peeped into the book "
    "her sister was reading.\nCopy: Alice was beginning"
)


@pytest.fixture(scope="module", params=["prompt lookup", "a draft model"])
def guessing(
    request: pytest.FixtureRequest,
    loaded: OpenVINOModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OpenVINOEngine]:
    """An engine that guesses tokens; the draft model is the model itself, in 8 bits."""
    how: dict[str, Any] = {"prompt_lookup": 8}
    if request.param == "a draft model":
        folder = tmp_path_factory.mktemp("draft") / "model"
        how = {"draft_model": str(save_openvino_folder(loaded, folder))}
    arguments = LanguageModelArguments(slots=4, **how)
    engine = OpenVINOEngine(loaded, arguments, max_length=MAX_LENGTH)
    engine.open()
    yield engine
    engine.close()


async def test_guesses_change_no_greedy_answer_but_where_two_tokens_are_as_likely(
    guessing: OpenVINOEngine, loaded: OpenVINOModel, exact: Any
) -> None:
    agreed = 0.0
    texts = (COPIED, *TEXTS)
    for text in texts:
        prompt = loaded.tokenizer(text).input_ids
        tokens, finished = await generate(guessing, prompt, replace(GREEDY, logprobs=True))
        made = [token.id for token in tokens]
        assert finished.error is None
        assert len(made) == GREEDY.max_new_tokens or made[-1] in loaded.end_tokens
        agreed += agreement(exact, prompt, made, GREEDY) / len(texts)
        assert all(token.logprob <= 0 for token in tokens)
    assert agreed >= 0.9
    copied = loaded.tokenizer.decode(
        [t.id for t in (await generate(guessing, loaded.tokenizer(COPIED).input_ids))[0]]
    )
    assert copied.startswith(" to get very tired of sitting by her sister on the bank")


async def test_guesses_keep_forms_penalties_and_ends(
    guessing: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    person, call, penalised = await asyncio.gather(
        text_of(guessing, loaded, "Describe a person.", form=JsonAnswer(PERSON)),
        text_of(guessing, loaded, "What is the weather?", form=replace(CALL, several=False)),
        text_of(guessing, loaded, COPIED, max_new_tokens=24, repetition_penalty=1.2),
    )
    assert set(json.loads(person)) == {"name", "age"}
    assert re.fullmatch(r"<tool_call>[^<]*</tool_call>", call)
    assert penalised


async def test_sampled_answers_are_made_or_refused_where_tokens_are_guessed(
    guessing: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    """With a draft model the library would end."""
    sampled = SamplingParameters(max_new_tokens=24, temperature=1.0, seed=5)
    refused = ""
    try:
        guessing.require_supported(sampled)
    except InvalidInput as error:
        refused = str(error)
    assert not refused or "draft_model" in refused
    if not refused:
        tokens, finished = await generate(guessing, loaded.tokenizer(COPIED).input_ids, sampled)
        assert tokens
        assert finished.error is None


async def test_prompts_are_scored_where_answers_are_guessed(
    guessing: OpenVINOEngine, loaded: OpenVINOModel
) -> None:
    ids = loaded.tokenizer(COPIED).input_ids
    assert len(await guessing.score(ids)) == len(ids) - 1
