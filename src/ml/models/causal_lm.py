"""Causal language models of transformers, from the hub, a folder, or the embedded one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ml.errors import ConfigurationError
from ml.models.local_models import model_source, require_there, told_of_files
from ml.models.model_config import context_length

__all__ = ["CausalLM", "CausalLMOptions", "end_tokens_of", "load_causal_lm"]


class CausalLMOptions(BaseModel):
    """How a model is loaded."""

    model_config = ConfigDict(frozen=True)

    revision: str | None = Field(default=None, description="A revision of the hub")
    adapter: str | None = Field(
        default=None, description="A LoRA of peft, merged when the model is loaded"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto",
        description="auto is bfloat16 where the processor has instructions for it, else float32",
    )
    device: str | None = Field(default=None, description="A GPU where there is one by default")


@dataclass(frozen=True)
class CausalLM:
    """A loaded model with its tokenizer.

    Attributes:
        end_tokens: ids that end the model's turn.
        max_length: positions that the model was made for.
    """

    model: Any
    tokenizer: Any
    end_tokens: tuple[int, ...]
    max_length: int

    @property
    def vocabulary(self) -> int:
        """How many token ids it has."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def dtype(self) -> str:
        """The type of the weights, such as `torch.bfloat16`."""
        return str(self.model.dtype)

    @property
    def device_type(self) -> str:
        """Where it runs, such as `cpu`."""
        return str(self.model.device.type)


def load_causal_lm(name: str, options: CausalLMOptions | None = None) -> CausalLM:
    """Load a model by its hub name or folder.

    Only safetensors are read and no code of a repository is run. Raises `ConfigurationError`
    saying what is missing, and `UpstreamError` where only the hub cannot be reached.
    """
    options = options or CausalLMOptions()
    told = f"model {name!r} cannot be loaded"
    require_there(name, told)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    chosen = _best_dtype(place.type) if options.dtype == "auto" else options.dtype
    source = model_source(name)
    with told_of_files(told):
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=options.revision, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=options.revision,
            dtype=getattr(torch, chosen),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
        )
        max_length = context_length(model.config.get_text_config(), 2048)
    if options.adapter is not None:
        model = _with_adapter(model, options.adapter)
    model = model.eval().to(place)
    ends = end_tokens_of(model.generation_config.eos_token_id, tokenizer)
    return CausalLM(model, tokenizer, ends, max_length)


def _best_dtype(device: str) -> str:
    if device == "cuda":
        return "bfloat16"
    listing = Path("/proc/cpuinfo")
    flags = listing.read_text() if listing.exists() else ""
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"adapter {adapter!r} cannot be loaded: {reason}") from error


def end_tokens_of(configured: int | list[int] | None, tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that end a turn: a config's `eos_token_id`, and the tokenizer's."""
    ids = configured if isinstance(configured, list) else [configured]
    return tuple({id_ for id_ in (*ids, tokenizer.eos_token_id) if id_ is not None})
