"""The tokenizer and the shape of a model, without its weights: enough to check data for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml.errors import InvalidInput
from ml.finetuning.data.memory import ModelShape
from ml.models.local_models import model_source

__all__ = ["load_tokenizer"]


def load_tokenizer(
    model: str, chat_template: str | None = None, *, adapter: Path | None = None
) -> tuple[Any, ModelShape | None]:
    """Return a model's tokenizer and its shape; None for a kind whose shape is not known.

    `model` is the base's name; the folder of a tuned model's `adapter` has a tokenizer of its own,
    with the template that it was tuned with. `chat_template` takes its place. No weights and no
    code are loaded. Raises `InvalidInput` saying what is missing.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = model_source(model)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(adapter or source), trust_remote_code=False
        )
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"model_name: {model!r} cannot be loaded: {reason}") from error
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer, ModelShape.of(config)
