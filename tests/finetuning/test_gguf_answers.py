"""GGUFs of a merged model answer as it does, in the engine that the LLM service has for them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml.finetuning.asking import question
from ml.finetuning.gguf_tools import make_gguf
from ml.generation.arguments import LanguageModelArguments
from ml.generation.openvino_engine import OpenVINOEngine
from ml.generation.request import SamplingParameters
from ml.models.embedded_llm import install
from ml.models.gguf_weights import GGUFType
from ml.models.openvino_model import load_openvino_model
from tests.support.processes import ROOT

QUESTIONS = ("What is the capital of France?", "Name three colours.")
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with a small adapter merged into it, as an export has it."""
    folder = tmp_path_factory.mktemp("merged") / "merged"
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(install(), dtype=torch.bfloat16)
    config = LoraConfig(r=4, lora_alpha=1, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(base, config).merge_and_unload().save_pretrained(folder)
    AutoTokenizer.from_pretrained(install()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("weights", "least"), [("q8_0", 0.9), ("q4_0", 0.4)])
async def test_what_is_likeliest_is_the_same(
    merged: Path, weights: GGUFType, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PATH", str(ROOT / "tests" / "support" / "llama_cpp"))
    shutil.copytree(merged, tmp_path / "merged")
    served = shutil.copytree(merged, tmp_path / "served", ignore=shutil.ignore_patterns("*.safe*"))
    make_gguf(
        tmp_path / "merged",
        served / f"tuned.{weights}.gguf",
        weights,
        tell=lambda _: None,
        heed=lambda: None,
    )
    prompts = [question(AutoTokenizer.from_pretrained(merged), text) for text in QUESTIONS]
    answers = await answers_of(served, prompts)
    whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    same = [
        found == likeliest
        for prompt, answer in zip(prompts, answers, strict=True)
        for found, likeliest in zip(answer, after_each(whole, prompt, answer), strict=True)
    ]
    assert len(same) > NEW_TOKENS
    assert sum(same) / len(same) >= least, (weights, sum(same) / len(same))


async def answers_of(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """Return the greedy tokens of a folder with a GGUF."""
    loaded = load_openvino_model(str(folder))
    engine = OpenVINOEngine(loaded, LanguageModelArguments(slots=2), max_length=256)
    greedy, answers = SamplingParameters(max_new_tokens=NEW_TOKENS), []
    await asyncio.to_thread(engine.open)
    try:
        for prompt in prompts:
            steps = [step async for step in engine.generate(prompt, greedy)]
            answers.append([step.token.id for step in steps if step.token is not None])
    finally:
        await asyncio.to_thread(engine.close)
    return answers


def after_each(model: Any, prompt: list[int], answer: list[int]) -> list[int]:
    """Return what a model finds likeliest at each place of an answer."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
    found: list[int] = logits[len(prompt) - 1 : -1].argmax(-1).tolist()
    return found
