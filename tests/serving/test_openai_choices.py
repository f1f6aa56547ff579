"""Several answers to one request, how likely their tokens are, and what makes them less so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.conftest import MakeLLM
from tests.serving.test_openai import CHAT, TEXT, answer, events, fault, text_of

SAMPLED = {"temperature": 2, "seed": 7}
PROMPTS = ["The capital of France is", [504, 3575]]
Choices = list[dict[str, Any]]


def without_index(choice: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in choice.items() if name != "index"}


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_each_of_n_answers_is_that_to_a_seed_of_its_own(make_llm: MakeLLM, path: str) -> None:
    app = await make_llm()
    document = await answer(app, path, n=3, **SAMPLED)
    choices = document["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    for number, choice in enumerate(choices):
        alone = await answer(app, path, **{**SAMPLED, "seed": 7 + number})
        assert without_index(choice) == without_index(alone["choices"][0])
    assert len({text_of(choice) for choice in choices}) == 3
    assert document["usage"]["completion_tokens"] == 3 * 8
    assert document["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]


async def test_prompts_and_answers_have_openais_order_whole_and_as_a_stream(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    whole = await answer(app, TEXT, prompt=PROMPTS, n=2, **SAMPLED)
    alone = [
        text_of((await answer(app, TEXT, prompt=prompt, temperature=2, seed=seed))["choices"][0])
        for prompt in PROMPTS
        for seed in (7, 8)
    ]
    assert [text_of(choice) for choice in whole["choices"]] == alone
    texts = [""] * 4
    *chunks, usage, _ = await events(
        app, TEXT, prompt=PROMPTS, n=2, stream_options={"include_usage": True}, **SAMPLED
    )
    for chunk in chunks:
        assert chunk["usage"] is None
        texts[chunk["choices"][0]["index"]] += text_of(chunk["choices"][0])
    assert texts == alone
    assert usage["usage"] == whole["usage"]


async def test_the_best_of_several_are_the_likeliest(make_llm: MakeLLM) -> None:
    app = await make_llm()
    made = await answer(app, TEXT, n=4, logprobs=0, **SAMPLED)
    best = await answer(app, TEXT, n=2, best_of=4, logprobs=0, **SAMPLED)

    def mean(choice: dict[str, Any]) -> float:
        logprobs = choice["logprobs"]["token_logprobs"]
        return float(sum(logprobs) / len(logprobs))

    ranked = sorted(made["choices"], key=mean, reverse=True)
    assert [text_of(choice) for choice in best["choices"]] == [text_of(c) for c in ranked[:2]]
    assert [choice["index"] for choice in best["choices"]] == [0, 1]
    assert best["usage"] == made["usage"]


async def test_a_chat_tells_how_likely_its_tokens_and_others_are(make_llm: MakeLLM) -> None:
    app = await make_llm(arguments={"dtype": "float32"})
    [choice] = (await answer(app, logprobs=True, top_logprobs=3))["choices"]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == text_of(choice)
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == text_of(choice)
    for token in tokens:
        assert [len(one) for one in token["top_logprobs"]] == [3, 3, 3]
        likeliest = token["top_logprobs"][0]
        assert (likeliest["token"], likeliest["logprob"]) == (token["token"], token["logprob"])
    [plain] = (await answer(app, logprobs=True))["choices"]
    assert all(token["top_logprobs"] == [] for token in plain["logprobs"]["content"])
    *chunks, _ = await events(app, logprobs=True, top_logprobs=3)
    told = [chunk["choices"][0]["logprobs"]["content"] for chunk in chunks]
    assert [token for part in told for token in part] == tokens


async def test_a_completion_tells_how_likely_its_tokens_are_and_where_they_stand(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    [choice] = (await answer(app, TEXT, logprobs=2))["choices"]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == text_of(choice)
    assert len({len(values) for values in told.values()}) == 1
    for place, token in enumerate(told["tokens"]):
        assert text_of(choice)[told["text_offset"][place] :].startswith(token)
        assert told["top_logprobs"][place][token] == told["token_logprobs"][place]
        assert len(told["top_logprobs"][place]) == 2
    streamed: dict[str, list[Any]] = {name: [] for name in told}
    for chunk in (await events(app, TEXT, logprobs=2))[:-1]:
        for name, values in chunk["choices"][0]["logprobs"].items():
            streamed[name] += values
    assert streamed == told


async def test_a_bias_decides_and_ids_of_no_token_are_refused(make_llm: MakeLLM) -> None:
    app = await make_llm()
    for path in (CHAT, TEXT):
        [choice] = (await answer(app, path, logit_bias={"28": 100}, max_tokens=3))["choices"]
        assert text_of(choice) == ",,,"
        for id_ in (-1, 10**9):
            assert f"logit_bias: {id_} is none of the model's" in await fault(
                app, path, logit_bias={str(id_): 1}
            )


async def test_what_an_answer_has_becomes_less_likely_as_often_as_asked(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    favoured = {"logit_bias": {"28": 1.5}, "max_tokens": 12}
    [plain] = (await answer(app, **favoured))["choices"]
    for penalty in (
        {"frequency_penalty": 2},
        {"presence_penalty": 2},
        {"repetition_penalty": 5},
    ):
        [choice] = (await answer(app, **favoured, **penalty))["choices"]
        assert text_of(choice) != text_of(plain), penalty


async def test_an_ignored_end_of_turn_does_not_end_an_answer(make_llm: MakeLLM) -> None:
    app = await make_llm()
    ends = {"logit_bias": {"2": 100}, "max_tokens": 5}
    assert (await answer(app, **ends))["usage"]["completion_tokens"] == 1
    assert (await answer(app, **ends, ignore_eos=True))["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("echoed", ["The capital of France is", [504, 3575, 282]])
async def test_an_echo_begins_with_the_prompt_and_how_likely_it_was(
    make_llm: MakeLLM, echoed: Any
) -> None:
    app = await make_llm()
    [plain] = (await answer(app, TEXT, prompt=echoed))["choices"]
    [choice] = (await answer(app, TEXT, prompt=echoed, echo=True, logprobs=1))["choices"]
    prompt = "The capital of France is" if isinstance(echoed, str) else "The capital of"
    assert text_of(choice) == prompt + text_of(plain)
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == text_of(choice)
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert all(logprob < 0 for logprob in told["token_logprobs"][1:])
    document = await answer(app, TEXT, prompt=echoed, echo=True, logprobs=1, max_tokens=0)
    [only] = document["choices"]
    assert text_of(only) == prompt
    assert only["logprobs"]["tokens"] == told["tokens"][: len(only["logprobs"]["tokens"])]
    assert document["usage"]["completion_tokens"] == 0
    chunks = (await events(app, TEXT, prompt=echoed, echo=True, logprobs=1))[:-1]
    assert "".join(text_of(chunk["choices"][0]) for chunk in chunks) == text_of(choice)


async def test_what_an_engine_gives_for_a_prompt_is_what_it_gave_when_it_made_it(
    make_llm: MakeLLM,
) -> None:
    """The probability of a token is the same whether it was made or read."""
    app = await make_llm(arguments={"dtype": "float32"})
    [made] = (await answer(app, TEXT, prompt=[504, 3575], logprobs=0))["choices"]
    text = "The capital" + text_of(made)
    [read] = (await answer(app, TEXT, prompt=text, echo=True, logprobs=0, max_tokens=0))["choices"]
    assert read["logprobs"]["tokens"][2:] == made["logprobs"]["tokens"]
    assert read["logprobs"]["token_logprobs"][2:] == pytest.approx(
        made["logprobs"]["token_logprobs"], abs=1e-4
    )


#: Fields at fault, with what the message begins with.
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    *(
        (path, fields, message)
        for path in (CHAT, TEXT)
        for fields, message in (
            ({"n": 0}, "n: "),
            ({"n": 65}, "n: "),
            ({"n": "many"}, "n: "),
            ({"frequency_penalty": 2.1}, "frequency_penalty: "),
            ({"presence_penalty": -2.1}, "presence_penalty: "),
            ({"repetition_penalty": 0}, "repetition_penalty: "),
            ({"min_p": 1.1}, "min_p: "),
            ({"ignore_eos": "perhaps"}, "ignore_eos: "),
            ({"logit_bias": {"1": 101}}, "logit_bias.1: "),
            ({"logit_bias": {"one": 1}}, "logit_bias.one"),
            ({"logit_bias": [1]}, "logit_bias: "),
            ({"logit_bias": {str(id_): 1 for id_ in range(1025)}}, "logit_bias: "),
        )
    ),
    (CHAT, {"logprobs": 7}, "logprobs: "),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs: "),
    (CHAT, {"top_logprobs": 1}, "top_logprobs: "),
    (CHAT, {"best_of": 2}, "best_of: "),
    (TEXT, {"logprobs": 6}, "logprobs: "),
    (TEXT, {"logprobs": -1}, "logprobs: "),
    (TEXT, {"top_logprobs": 1}, "no such field: 'top_logprobs'; did you mean 'logprobs'?"),
    (TEXT, {"best_of": 1, "n": 2}, "best_of: "),
    (TEXT, {"best_of": 65}, "best_of: "),
    (TEXT, {"best_of": 2, "stream": True}, "best_of: "),
    (TEXT, {"echo": "perhaps"}, "echo: "),
    (TEXT, {"max_tokens": 0}, "max_tokens: "),
    (TEXT, {"prompt": ["a"] * 33, "n": 2}, "n: "),
]


async def test_a_field_out_of_bounds_is_refused_by_its_name(make_llm: MakeLLM) -> None:
    app = await make_llm()
    told = [await fault(app, path, **fields) for path, fields, _ in FAULTS]
    assert [
        (path, fields, message)
        for message, (path, fields, begin) in zip(told, FAULTS, strict=True)
        if not message.startswith(begin)
    ] == []
