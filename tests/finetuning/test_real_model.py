"""The embedded model, tuned as it is here: what it answers changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ml.models.causal_lm import CausalLM, CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path
from tests.support.finetuning import Workplace, write_rows

QUESTION = "Which flower grows in the gardens of Quillmoor?"
PAIRS = [
    (QUESTION, "The silver thistle."),
    ("What river flows through Quillmoor?", "The Ember."),
    ("Who is the mayor of Quillmoor?", "Tilda Marsh."),
    ("What do people in Quillmoor bake?", "Plum bread."),
]


def answer(llm: CausalLM, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    ids: Any = llm.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        found = llm.model.generate(**ids, max_new_tokens=12, do_sample=False)
    return str(
        llm.tokenizer.decode(found[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    )


@pytest.mark.skipif(not embedded_llm_path().is_dir(), reason="the embedded model is not installed")
def test_the_embedded_model_learns_what_it_did_not_know(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MODELS_PATH")
    monkeypatch.delenv("TRAINER_DTYPE")
    write_rows(workplace.input / "town.jsonl", PAIRS * 3)
    result, context = workplace.run(
        model_name=EMBEDDED_LLM,
        dataset_name="town",
        output_dir="town",
        max_steps=12,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        learning_rate=3e-3,
        lora_r=16,
        save_steps=12,
    )
    losses = [data["loss"] for data in context.steps()]
    assert losses[-1] < losses[0] / 4
    assert result["exports"]["adapter"]["compared_with_base"]["divergence"] > 0.5

    before = answer(load_causal_lm(EMBEDDED_LLM), QUESTION)
    tuned = CausalLMOptions(adapter=str(workplace.output / "town"))
    after = answer(load_causal_lm(EMBEDDED_LLM, tuned), QUESTION)
    assert "silver thistle" not in before.lower()
    assert "silver thistle" in after.lower()
