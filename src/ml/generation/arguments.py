"""The arguments of a language model, with their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from ml.errors import ConfigurationError
from ml.generation.sampling_options import SamplingOptions
from ml.models.causal_lm import CausalLMOptions
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.models.openvino_model import Weights, load_openvino_model

__all__ = ["LanguageModelArguments"]

#: A number that is written as one.
_Count = Annotated[int, Field(ge=1, strict=True)]


class LanguageModelArguments(CausalLMOptions, SamplingOptions):
    """What is loaded, how it serves, and how it answers requests that do not say so themselves."""

    model_config = ConfigDict(extra="forbid")

    #: What became of arguments that there were.
    replaced: ClassVar = {"quantization": "say weights, such as int8, with engine openvino"}

    model: str = Field(
        default=EMBEDDED_LLM,
        min_length=1,
        description="A hub name, a folder, or the embedded model; safetensors only, except with "
        "openvino",
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
    engine: Literal["auto", "openvino", "vllm", "transformers"] = Field(
        default="auto",
        description="What runs the model: openvino a GGUF file or a folder of OpenVINO's on the "
        "CPU, vllm what runs on a GPU, transformers all of it; auto chooses",
    )
    weights: Weights = Field(
        default="int8",
        description="Of openvino, where there is a choice: of the embedded model (fp16, int8), "
        "and of what python -m ml.models.convert made",
    )
    prompt_lookup: int | None = Field(
        default=None,
        ge=1,
        le=32,
        strict=True,
        description="Tokens that openvino guesses for each step where an answer repeats its prompt",
    )
    draft_model: str | None = Field(
        default=None,
        description="A smaller model with the same tokens, which guesses what openvino verifies",
    )
    cache_gib: _Count | None = Field(
        default=None,
        description="Memory of openvino's cache; without it there is room for the slots",
    )
    tensor_parallel: _Count | None = Field(
        default=None, description="GPUs that share the model, with vllm (1)"
    )
    gpu_memory: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The part of a GPU's memory that vllm takes for weights and cache (0.9)",
    )

    @field_validator("engine")
    @classmethod
    def _takes_the_others(cls, engine: str, info: ValidationInfo) -> str:
        if engine == "openvino" and (refused := _only_by_transformers(info.data)):
            raise ValueError(f"openvino does not take {', '.join(refused)}; transformers does")
        if engine == "vllm" and (refused := _refused_by_vllm(info.data)):
            raise ValueError(f"vllm does not take {', '.join(refused)}; transformers does")
        return engine

    @field_validator("weights", "cache_gib", "prompt_lookup", "draft_model")
    @classmethod
    def _is_for_openvino(cls, value: Any, info: ValidationInfo) -> Any:
        others = ("transformers",) if info.field_name == "cache_gib" else ("transformers", "vllm")
        if value is not None and info.data.get("engine") in others:
            raise ValueError("only engine openvino takes it")
        return value

    @field_validator("tensor_parallel", "gpu_memory")
    @classmethod
    def _is_for_vllm(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("engine") in ("openvino", "transformers"):
            raise ValueError("only engine vllm takes it")
        return value

    def refused_by_vllm(self) -> list[str]:
        """Return the names of what is given and engine vllm does not take."""
        return _refused_by_vllm(dict(self))

    @field_validator("draft_model")
    @classmethod
    def _guesses_alone(cls, draft_model: str | None, info: ValidationInfo) -> str | None:
        if draft_model is not None and info.data.get("prompt_lookup") is not None:
            raise ValueError("give prompt_lookup or draft_model, not both")
        return draft_model

    def draft_source(self) -> Path | None:
        """Return the draft model's files. Raises `ConfigurationError` where there are none."""
        if self.draft_model is None:
            return None
        source = load_openvino_model(self.draft_model, self.weights).source
        if not source.is_dir():  # the library reads no GGUF as a draft
            raise ConfigurationError(
                f"draft_model: {source.name} is no folder of OpenVINO's; python -m "
                f"ml.models.convert {self.draft_model} makes one"
            )
        return source

    def only_by_transformers(self) -> list[str]:
        """Return the names of what is given and engine openvino does not take."""
        return _only_by_transformers(dict(self))


def _only_by_transformers(given: Mapping[str, Any]) -> list[str]:
    anywhere = {"dtype": ("auto",), "device": (None, "cpu")}
    return [
        name
        for name in (*CausalLMOptions.model_fields, "adapters_path")
        if given.get(name) not in (None, *anywhere.get(name, ()))
    ]


def _refused_by_vllm(given: Mapping[str, Any]) -> list[str]:
    refused = {"adapter": (None,), "device": (None, "cuda")}
    return [name for name, harmless in refused.items() if given.get(name) not in harmless]
