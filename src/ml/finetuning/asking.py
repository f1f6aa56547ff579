"""Asking a causal model of transformers, one prompt at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ml.errors import UnprocessableInput
from ml.finetuning.data.chat_template import open_chat_template
from ml.finetuning.data.row import RowFault

__all__ = ["greedy", "question", "undisturbed"]


def question(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a question as a user asks it; the text's own without a template."""
    with open_chat_template(tokenizer) as template:
        if template is None:
            return list(tokenizer(text)["input_ids"])
        with contextlib.suppress(RowFault, UnprocessableInput):  # a template may refuse anything
            (text,) = template.render([([{"role": "user", "content": text}], True)])
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def greedy(model: Any, prompt: list[int], most: int) -> list[int]:
    """Return the likeliest tokens after a prompt, at most so many."""
    import torch
    from transformers import GenerationConfig

    inputs = torch.tensor([prompt], device=model.device)
    end = model.generation_config.eos_token_id
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=end,
        pad_token_id=end[0] if isinstance(end, list) else end,
    )
    found = model.generate(
        input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=config
    )
    return [int(token) for token in found[0, len(prompt) :]]


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Have a model in training answer in the block; nothing of that is seen behind it.

    Its modules are in the mode that they had, and so are torch's generators of random numbers.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    devices = range(torch.cuda.device_count())
    # No inference mode: what is kept from it could not be trained with.
    with torch.random.fork_rng(list(devices)), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
