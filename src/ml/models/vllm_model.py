"""Causal language models as vLLM reads them: safetensors, of the hub or in a folder.

vLLM loads the weights in processes of its own; here are only the tokenizer and what the model's
files say. Nothing here needs torch, or vLLM itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml.models.causal_lm import CausalLMOptions, end_tokens_of
from ml.models.gpu import gpu_in_sight
from ml.models.local_models import model_source, require_there, told_of_files
from ml.models.model_config import context_length

__all__ = ["VLLMModel", "load_vllm_model"]


@dataclass(frozen=True)
class VLLMModel:
    """A model by its name, with its tokenizer.

    Attributes:
        source: its folder, or its name on the hub.
        end_tokens: ids that end the model's turn.
        max_length: positions that the model was made for.
        vocabulary: how many token ids it has.
        dtype: the type of the weights.
        device_type: where it runs.
    """

    source: str
    tokenizer: Any
    end_tokens: tuple[int, ...]
    max_length: int
    vocabulary: int
    dtype: str
    device_type: str


def load_vllm_model(name: str, options: CausalLMOptions) -> VLLMModel:
    """Return a model by its hub name or folder.

    Raises `ConfigurationError` saying what is missing, and `UpstreamError` where only the hub
    cannot be reached.
    """
    told = f"model {name!r} cannot be loaded"
    require_there(name, told)
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    source = model_source(name)
    given: dict[str, Any] = {"revision": options.revision, "trust_remote_code": False}
    with told_of_files(told):
        tokenizer = AutoTokenizer.from_pretrained(source, **given)
        config = AutoConfig.from_pretrained(source, **given)
        text_config = config.get_text_config()
        vocabulary = int(text_config.vocab_size)
        max_length = context_length(text_config, 2048)
        try:
            ends = GenerationConfig.from_pretrained(source, **given).eos_token_id
        except OSError:  # it has none
            ends = getattr(text_config, "eos_token_id", None)
    return VLLMModel(
        source,
        tokenizer,
        end_tokens_of(ends, tokenizer),
        max_length=max_length,
        vocabulary=vocabulary,
        dtype=str(config.dtype) if options.dtype == "auto" else f"torch.{options.dtype}",
        device_type="cuda" if gpu_in_sight() else "cpu",
    )
