"""The arguments of a language model, with their bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from ml.generation.sampling_options import SamplingOptions
from ml.models.causal_lm import CausalLMOptions
from ml.models.embedded_llm import EMBEDDED_LLM

__all__ = ["LanguageModelArguments"]

#: A number that is written as one.
_Count = Annotated[int, Field(ge=1, strict=True)]


class LanguageModelArguments(CausalLMOptions, SamplingOptions):
    """What is loaded, how it serves, and how it answers requests that do not say so themselves."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        default=EMBEDDED_LLM,
        min_length=1,
        description="A hub name, a folder, or the embedded model; safetensors only",
    )
    adapters_path: str | None = Field(
        default=None, description="A folder whose sub-folders are LoRA adapters of peft"
    )
    max_adapters: _Count = Field(default=8, description="Adapters kept loaded")
    max_adapter_rank: _Count = Field(default=64, description="Their largest rank")
    system_prompt: str | None = Field(default=None, description="Put before every conversation")
    slots: _Count = Field(default=16, description="Requests that generate at once; others wait")
    max_length: int = Field(
        default=2048, ge=16, strict=True, description="Tokens of prompt and answer together"
    )
    reuse_prefixes: bool = Field(
        default=True,
        description="Read the common beginning of prompts once; who measures times closely can "
        "learn from that what others asked",
    )
