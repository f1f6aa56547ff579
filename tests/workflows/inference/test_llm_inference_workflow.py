"""The language model's workflow on the embedded model in float32, where answers are exact."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from eth_abi.abi import decode, encode
from peft import LoraConfig, get_peft_model

from ml.errors import ConfigurationError, InvalidInput
from ml.generation.request import PromptTooLong
from ml.models.causal_lm import CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow

#: Texts of different lengths, and how many tokens to answer them with.
QUESTIONS = {
    "What is the capital of France?": 12,
    "Count from one to five.": 5,
    "Hi": 20,
    "Write a function that adds two numbers in Python.": 24,
    "Summarize this: " + "The fox runs through the forest and the dog sleeps. " * 12: 16,
    "Name three colours of the rainbow, one a line.": 1,
}


@contextmanager
def set_up(workflow: LLMInferenceWorkflow) -> Iterator[LLMInferenceWorkflow]:
    asyncio.run(workflow.setup())
    try:
        yield workflow
    finally:
        asyncio.run(workflow.close())


@pytest.fixture(scope="module")
def workflow() -> Iterator[LLMInferenceWorkflow]:
    with set_up(LLMInferenceWorkflow(dtype="float32", slots=4, max_length=512)) as workflow:
        yield workflow


def plain_answer(model: Any, tokenizer: Any, text: str, count: int) -> str:
    """Return what transformers itself generates for a text."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**prompt, max_new_tokens=count, do_sample=False)
    answer: str = tokenizer.decode(
        output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return answer


@pytest.fixture(scope="module")
def plain_answers(workflow: LLMInferenceWorkflow) -> dict[str, str]:
    loaded = workflow.language_model.loaded
    return {
        text: plain_answer(loaded.model, loaded.tokenizer, text, count)
        for text, count in QUESTIONS.items()
    }


def data(text: str) -> dict[str, Any]:
    return {"text": text, "max_new_tokens": QUESTIONS[text]}


# --- the same answers as transformers ---------------------------------------------------------


async def test_an_answer_is_the_one_of_generate(
    workflow: LLMInferenceWorkflow, plain_answers: dict[str, str]
) -> None:
    assert {text: await workflow.inference(data(text)) for text in QUESTIONS} == plain_answers
    assert "Paris" in plain_answers["What is the capital of France?"]


async def test_answers_in_one_batch_are_those_of_generate(
    workflow: LLMInferenceWorkflow, plain_answers: dict[str, str]
) -> None:
    """Six requests of different lengths on four slots, so that some join while others leave."""
    answers = await asyncio.gather(*(workflow.inference(data(text)) for text in QUESTIONS))
    assert dict(zip(QUESTIONS, answers, strict=True)) == plain_answers


async def test_a_stream_gives_the_same_answer_in_pieces(
    workflow: LLMInferenceWorkflow, plain_answers: dict[str, str]
) -> None:
    text = "Write a function that adds two numbers in Python."
    pieces = [piece async for piece in workflow.stream(workflow.decode_offchain(data(text)))]
    assert len(pieces) > 10
    assert "".join(pieces) == plain_answers[text]


# --- a LoRA -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peft_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """An adapter with random weights on the embedded model, and the folder it is saved in."""
    torch.manual_seed(0)
    base = load_causal_lm(EMBEDDED_LLM, CausalLMOptions(dtype="float32", device="cpu")).model
    targets = ["q_proj", "v_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return model.eval(), folder


def test_a_merged_adapter_gives_the_answers_of_pefts_own_model(
    workflow: LLMInferenceWorkflow,
    plain_answers: dict[str, str],
    peft_model: tuple[Any, Path],
) -> None:
    model, folder = peft_model
    tokenizer = workflow.language_model.loaded.tokenizer
    expected = {
        text: plain_answer(model, tokenizer, text, count) for text, count in QUESTIONS.items()
    }
    adapted = LLMInferenceWorkflow(adapter=str(folder), dtype="float32", slots=2, max_length=512)
    with set_up(adapted):
        answers = {text: asyncio.run(adapted.inference(data(text))) for text in QUESTIONS}
    assert answers == expected
    assert sum(answers[text] != plain_answers[text] for text in QUESTIONS) >= 3


# --- a subclass that answers with an object ---------------------------------------------------


class Judge(LLMInferenceWorkflow):
    """Answers with an object."""

    def do_postprocessing(self, input_data: Any, output_data: str) -> dict[str, Any]:
        return {"question": input_data.text, "answer": output_data, "spam": "buy" in output_data}


@pytest.fixture(scope="module")
def judge() -> Iterator[LLMInferenceWorkflow]:
    with set_up(Judge(dtype="float32", slots=1, max_length=256, max_new_tokens=12)) as workflow:
        yield workflow


async def test_a_subclass_answers_with_an_object(
    judge: LLMInferenceWorkflow, plain_answers: dict[str, str]
) -> None:
    text = "What is the capital of France?"
    answer = await judge.inference(judge.decode_offchain(text))
    assert answer == {"question": text, "answer": plain_answers[text], "spam": False}


async def test_a_contract_gets_a_subclasss_object_as_json(
    judge: LLMInferenceWorkflow, plain_answers: dict[str, str]
) -> None:
    text = "What is the capital of France?"
    sent = encode(["string"], [text])
    raw = await judge.run(
        lambda: judge.decode_onchain(sent),
        lambda input_data, output: judge.encode_onchain(output, input_data),
    )
    (returned,) = decode(["string"], raw)
    expected = {"question": text, "answer": plain_answers[text], "spam": False}
    assert json.loads(returned) == expected


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"slots": 0}, "slots: Input should be greater"),
        ({"slots": "4"}, "slots: Input should be a valid integer"),
        ({"slots": 2.5}, "slots: Input should be a valid integer"),
        ({"slots": True}, "slots: Input should be a valid integer"),
        ({"slots": None}, "slots: Input should be a valid integer"),
        ({"max_length": 15}, "max_length: Input should be greater than or equal to 16"),
        ({"max_new_tokens": 0}, "max_new_tokens: Input should be greater"),
        ({"max_new_tokens": "many"}, "max_new_tokens: Input should be a valid integer"),
        ({"temperature": -0.1}, "temperature: Input should be greater"),
        ({"temperature": 5.1}, "temperature: Input should be less"),
        ({"temperature": float("nan")}, "temperature: Input should be"),
        ({"top_p": -0.1}, "top_p: Input should be greater"),
        ({"top_p": 1.1}, "top_p: Input should be less"),
        ({"top_k": -2}, "top_k: Input should be greater"),
        ({"seed": -1}, "seed: Input should be greater"),
        ({"stop": "\n"}, "stop: give a list"),
        ({"stop": ["a"] * 17}, "stop: List should have at most 16"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_before_anything_is_loaded(
    arguments: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        LLMInferenceWorkflow(**arguments)
    assert str(caught.value).startswith(fault)
    assert "\n" not in str(caught.value)


def test_all_wrong_defaults_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        LLMInferenceWorkflow(temperature=-1, top_p=2)
    assert "temperature" in str(caught.value)
    assert "top_p" in str(caught.value)


async def test_a_prompt_without_room_for_an_answer_is_refused_with_the_numbers(
    workflow: LLMInferenceWorkflow,
) -> None:
    with pytest.raises(InvalidInput, match=r"the prompt has \d{3,} tokens .* may have 512"):
        await workflow.inference("word " * 600)


def test_a_text_that_is_far_too_long_is_refused_before_its_tokens_are_made(
    workflow: LLMInferenceWorkflow,
) -> None:
    text = "hi " * 5_000_000
    started = time.process_time()
    model = workflow.language_model
    for ask in (model.complete, lambda text: workflow.do_preprocessing({"text": text})):
        with pytest.raises(PromptTooLong, match="over 512 tokens"):
            ask(text)
    assert len(model.complete(text, truncate=7).ids) == 7
    assert time.process_time() - started < 2  # its tokens take ten
