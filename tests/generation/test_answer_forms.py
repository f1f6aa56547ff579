"""Answers that have to have a form, from a model with random weights, which knows none."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from pydantic import BaseModel, Field, TypeAdapter
from transformers import AutoTokenizer

from ml.errors import InvalidInput
from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer, Tag, TaggedAnswer
from ml.generation.answer_grammar import require_form
from ml.generation.answer_matcher import AnswerMatchers, restrict
from ml.generation.arguments import LanguageModelArguments
from ml.generation.language_model import LanguageModel
from ml.generation.request import Finished, FinishReason, Piece, collect
from ml.generation.transformers_engine import TransformersEngine
from ml.models.embedded_llm import embedded_llm_path
from tests.support.tiny_llm import save_tiny_llm

BEGIN, END = '<tool_call>\n{"name": "%s", "arguments": ', "}\n</tool_call>"
CALLED = re.compile(
    r'<tool_call>\n\{"name": "(\w+)", "arguments": (.*?)\}\n</tool_call>', re.DOTALL
)


class Pet(BaseModel, extra="forbid"):
    name: str = Field(max_length=12)
    kind: Literal["cat", "dog", "Ünicorn"]
    age: int = Field(ge=0, le=30)
    tags: list[bool] = Field(max_length=3)
    owner: str | None = Field(default=None, pattern="^[a-z]{2,5}$")


class Nothing(BaseModel, extra="forbid"):
    pass


TAGS = tuple(
    Tag(BEGIN % name, json.dumps(model.model_json_schema()), END)
    for name, model in {"save_pet": Pet, "save": Nothing, "größe": Pet}.items()
)
PET = JsonAnswer(json.dumps(Pet.model_json_schema()))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    folder = save_tiny_llm(tmp_path_factory.mktemp("tiny"))
    arguments = LanguageModelArguments(
        model=str(folder), engine="transformers", dtype="float32", slots=6, max_length=256
    )
    model = LanguageModel(arguments)
    model.load()
    yield model
    model.close()


@pytest.fixture(scope="module")
def matchers() -> AnswerMatchers:
    return matchers_of(AutoTokenizer.from_pretrained(embedded_llm_path()))


def matchers_of(tokenizer: Any) -> AnswerMatchers:
    ends = [tokenizer.eos_token_id]
    return AnswerMatchers(tokenizer, vocabulary=len(tokenizer), end_tokens=ends)


async def answer(
    model: LanguageModel, form: AnswerForm | None, **parameters: Any
) -> tuple[str, list[Piece], Finished]:
    asked = {"max_new_tokens": 200, "temperature": 1.0, "seed": 0, "form": form} | parameters
    prompt = model.complete("An answer:")
    prompt = replace(prompt, sampling=replace(prompt.sampling, **asked))
    pieces, finished = await collect(model.generate(prompt))
    return "".join(piece.text for piece in pieces), pieces, finished


def read(
    matchers: AnswerMatchers, form: AnswerForm, ids: Sequence[int], vocabulary: int = 49_152
) -> tuple[int, bool]:
    """Return how many tokens a form allows one after the other, and whether it may end there."""
    matcher = matchers.new(form)
    for place, id_ in enumerate(ids):
        logits = torch.zeros(1, vocabulary)
        restrict(logits, [matcher])
        if logits[0, id_] != 0:
            return place, False
        matcher.accept(id_)
    return len(ids), matcher.matcher.is_accepting()


async def test_a_schema_is_kept_whatever_is_drawn(model: LanguageModel) -> None:
    answers = await asyncio.gather(*(answer(model, PET, seed=seed) for seed in range(12)))
    for text, _, finished in answers:
        assert finished.reason is FinishReason.STOP
        Pet.model_validate_json(text)
    assert len({text for text, *_ in answers}) == 12


async def test_the_same_holds_for_the_likeliest_tokens_and_beside_others(
    model: LanguageModel,
) -> None:
    """What has no form is not changed by what shares its steps."""
    alone = await answer(model, None, temperature=0, max_new_tokens=20)
    (text, *_), free, (number, *_) = await asyncio.gather(
        answer(model, PET, temperature=0),
        answer(model, None, temperature=0, max_new_tokens=20),
        answer(model, RegexAnswer(r"^-?\d{1,3}/\w{2,5}[^\s\d]$"), temperature=2.0),
    )
    Pet.model_validate_json(text)
    assert re.fullmatch(r"-?[0-9]{1,3}/[0-9a-zA-Z_]{2,5}[^\s0-9]", number)
    assert free[0] == alone[0]


async def test_any_json_is_json(model: LanguageModel) -> None:
    answers = [answer(model, JsonAnswer("{}"), seed=s, max_new_tokens=60) for s in range(6)]
    for text, _, finished in await asyncio.gather(*answers):
        if finished.reason is FinishReason.STOP:
            json.loads(text)
    whole = JsonAnswer('{"type": "array", "items": {"type": "boolean"}, "maxItems": 4}')
    text, _, finished = await answer(model, whole)
    assert finished.reason is FinishReason.STOP
    TypeAdapter(list[bool]).validate_json(text)


@pytest.mark.parametrize("several", [False, True])
async def test_a_required_tag_has_arguments_of_its_own_schema(
    model: LanguageModel, several: bool
) -> None:
    form = TaggedAnswer("<tool_call>", TAGS, required=True, several=several)
    names = set()
    answers = [answer(model, form, seed=seed, max_new_tokens=120) for seed in range(6)]
    for text, _, finished in await asyncio.gather(*answers):
        called = CALLED.match(text)
        assert called, text
        names.add(called[1])
        (Nothing if called[1] == "save" else Pet).model_validate_json(called[2])
        if not several:
            assert finished.reason is FinishReason.STOP
            assert called[0] == text
    assert len(names) > 1


CALL = BEGIN % "save" + "{}" + END
OTHER = BEGIN % "größe" + '{"name": "x", "kind": "cat", "age": 3, "tags": []}' + END


@pytest.mark.parametrize(
    ("text", "one", "more", "one_required", "more_required"),
    [
        ("Hello <tool, or tool_call>", True, True, False, False),
        (CALL, True, True, True, True),
        ("So: " + OTHER, True, True, False, False),
        (CALL + "\n" + OTHER, False, True, False, True),
        (CALL + " It is done.", False, True, False, True),
        (CALL + "<tool_call>", False, False, False, False),
        ("Hello <tool_call> there", False, False, False, False),
        (BEGIN % "save" + '{"a": 1}' + END, False, False, False, False),
        (BEGIN % "save_pet" + "{}" + END, False, False, False, False),
        (CALL.replace("save", "unknown"), False, False, False, False),
    ],
)
def test_a_trigger_begins_a_tag_and_nothing_else(
    matchers: AnswerMatchers,
    text: str,
    one: bool,
    more: bool,
    one_required: bool,
    more_required: bool,
) -> None:
    ids = AutoTokenizer.from_pretrained(embedded_llm_path())(text).input_ids
    expected = {
        (False, False): one,
        (False, True): more,
        (True, False): one_required,
        (True, True): more_required,
    }
    for (required, several), fits in expected.items():
        form = TaggedAnswer("<tool_call>", TAGS, required=required, several=several)
        assert (read(matchers, form, ids) == (len(ids), True)) is fits, (required, several)


def test_a_token_that_writes_the_trigger_is_one_way_to_write_it() -> None:
    """As in tokenizers that have `<tool_call>` and `<think>` in one piece, and not as special."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_llm_path())
    plain = tokenizer(CALL).input_ids
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<think>"])
    ids = tokenizer("<think> " + CALL).input_ids
    assert len(ids) < len(plain)
    form = TaggedAnswer("<tool_call>", TAGS)
    matchers, size = matchers_of(tokenizer), len(tokenizer)
    assert read(matchers, form, ids, size) == (len(ids), True)
    assert read(matchers, form, plain, size) == (len(plain), True)
    required = replace(form, required=True)
    assert read(matchers, required, ids, size)[0] == 0
    assert read(matchers, required, ids[2:], size) == (len(ids) - 2, True)
    special = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert read(matchers, form, [special], size)[0] == 0


async def test_too_few_tokens_cut_an_answer(model: LanguageModel) -> None:
    _, _, finished = await answer(model, PET, max_new_tokens=3)
    assert (finished.reason, finished.completion_tokens) == (FinishReason.LENGTH, 3)


async def test_an_answer_that_has_all_of_its_form_ends_though_ends_are_ignored(
    model: LanguageModel,
) -> None:
    text, _, finished = await answer(model, RegexAnswer("a|b"), ignore_eos=True)
    assert text in ("a", "b")
    assert (finished.reason, finished.completion_tokens) == (FinishReason.STOP, 1)


async def test_probabilities_are_those_before_the_form(model: LanguageModel) -> None:
    _, free, _ = await answer(model, None, temperature=0, max_new_tokens=1, top_logprobs=3)
    _, [piece], _ = await answer(model, RegexAnswer("a|b"), top_logprobs=3)
    assert dict(piece.token.top) == pytest.approx(dict(free[0].token.top), abs=1e-4)
    assert piece.token.id not in dict(piece.token.top)
    assert piece.token.logprob < piece.token.top[-1][1]


async def test_a_form_that_grows_too_complex_fails_its_own_answer(model: LanguageModel) -> None:
    (_, _, finished), broken = await asyncio.gather(
        answer(model, None, max_new_tokens=30, temperature=0),
        answer(model, RegexAnswer("(a|a)*b{1000000}")),
        return_exceptions=True,
    )
    assert isinstance(broken, InvalidInput)
    assert "too complex" in str(broken)
    assert finished.completion_tokens == 30


DEEP = '{"items": ' * 3000 + "{}" + "}" * 3000
FAULTS: list[tuple[AnswerForm, str]] = [
    (JsonAnswer("nonsense"), "cannot be read"),
    (JsonAnswer("[]"), "is an object"),
    (JsonAnswer('"x"'), "is an object"),
    (JsonAnswer('{"type": "objekt"}'), "objekt"),
    (JsonAnswer('{"type": 3}'), "type"),
    (JsonAnswer('{"not": {}}'), "not"),
    (JsonAnswer('{"type": "object", "dependentSchemas": {}}'), "dependentSchemas"),
    (JsonAnswer('{"type": "string", "format": "wombat"}'), "wombat"),
    (JsonAnswer('{"type": "string", "pattern": "(?=a)b"}'), "look"),
    (JsonAnswer('{"not": {}, "x-guidance": {"lenient": true}}'), "not"),
    (JsonAnswer('{"type": "integer", "minimum": 5, "maximum": 3}'), "minimum"),
    (JsonAnswer('{"$ref": "http://127.0.0.1/x"}'), "127.0.0.1"),
    (JsonAnswer('{"$ref": "#/$defs/none"}'), "none"),
    (JsonAnswer(json.dumps({"const": "\ud800"})), "JSON"),
    (JsonAnswer(json.dumps({"maximum": float("nan")})), "JSON"),
    (JsonAnswer(DEEP), "JSON"),
    (JsonAnswer(json.dumps({"enum": ["x" * 10**6]})), "65536"),
    (JsonAnswer(json.dumps({"allOf": [{"anyOf": [
        {"type": "object", "properties": {f"a{place}": {"const": number}}} for number in range(12)
    ]} for place in range(8)]})), "too large"),
    (RegexAnswer("(?=a)b"), "look-around"),
    (RegexAnswer(r"(a)\1"), "backreferences"),
    (RegexAnswer("("), "unclosed group"),
    (RegexAnswer("(" * 5000 + "a" + ")" * 5000), "regular expression"),
    (RegexAnswer("a" * 70_000), "65536"),
    (TaggedAnswer("<t>", (Tag("<t>", '{"type": "objekt"}', ""),)), "objekt"),
    (TaggedAnswer("<t>", (Tag("<t>", "{", ""),)), "cannot be read"),
    (TaggedAnswer("<t>", ()), "at least one tag"),
    (TaggedAnswer("<t>", (Tag("<u>", "{}", ""),)), "begins with"),
    (TaggedAnswer("<t>", tuple(Tag("<t>" + "b" * 999, "{}", "") for _ in range(99))), "65536"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "told"), FAULTS, ids=lambda one: str(one)[:40])
def test_what_no_answer_can_have_is_refused_in_words(
    matchers: AnswerMatchers, form: AnswerForm, told: str
) -> None:
    began = time.monotonic()
    for refuse in (require_form, matchers.new):
        with pytest.raises(InvalidInput, match=re.escape(told)) as refused:
            refuse(form)
        assert len(str(refused.value)) < 500
        assert "panic" not in str(refused.value)
    assert time.monotonic() - began < 20


COSTLY: list[AnswerForm] = [
    JsonAnswer('{"$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/a"}, '
               '"c": {"$ref": "#/$defs/a"}}, "required": ["b", "c"]}}, "$ref": "#/$defs/a"}'),
    JsonAnswer('{"type": "string", "minLength": 1000000000}'),
    JsonAnswer('{"type": "array", "minItems": 1000000, "items": {"minItems": 1000000}}'),
    JsonAnswer('{"type": "string", "pattern": "(a{1,1000}){1,1000}"}'),
    JsonAnswer(json.dumps({"type": "object", "properties": {f"k{n}": {} for n in range(2500)}})),
    JsonAnswer(json.dumps({"enum": [f"x{n}" for n in range(6000)]})),
    RegexAnswer("((a{1,100}){1,100}){1,100}"),
    RegexAnswer("(x+x+)+y"),
    RegexAnswer(".*a.{1000}b"),
    RegexAnswer("(.*a){25}"),
]  # fmt: skip


@pytest.mark.parametrize("form", COSTLY, ids=lambda form: str(form)[:40])
async def test_a_costly_form_takes_little_time_and_leaves_the_others_alone(
    model: LanguageModel, form: AnswerForm
) -> None:
    began = time.monotonic()
    (_, _, free), _ = await asyncio.gather(
        answer(model, None, max_new_tokens=16, temperature=0),
        answer(model, form, max_new_tokens=16),
        return_exceptions=True,
    )
    assert free.completion_tokens == 16
    assert time.monotonic() - began < 20


async def test_an_engine_without_a_tokenizer_refuses_forms(model: LanguageModel) -> None:
    engine = TransformersEngine(model.loaded.model, end_tokens=[], slots=1, max_length=64)
    asked = replace(model.complete("x").sampling, form=PET)
    try:
        with pytest.raises(InvalidInput, match="form"):
            engine.require_supported(asked)
        with pytest.raises(InvalidInput, match="form"):
            await anext(engine.generate([1, 2], asked))
    finally:
        engine.close()
