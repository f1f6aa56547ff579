"""The `adapter_config.json` of a LoRA adapter of peft."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt

__all__ = ["LoraConfig"]

#: What peft can add to LoRA that a pair of matrices does not hold.
_UNSUPPORTED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
)
#: The starts of training that leave the model's own weights as they are.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_PLAIN_PATTERN = re.compile(r"[\w.]+")


class LoraConfig(BaseModel):
    """How the matrices of an adapter were trained, and so how they are applied."""

    model_config = ConfigDict(extra="allow")

    peft_type: str
    r: PositiveInt = 8  # what peft takes where nothing is said, as all of these
    lora_alpha: FiniteFloat = 8
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, PositiveInt] | None = Field(default_factory=dict)
    alpha_pattern: dict[str, FiniteFloat] | None = Field(default_factory=dict)

    def faults(self, max_rank: int) -> Iterator[str]:
        """Yield what of it cannot be served."""
        if self.peft_type != "LORA":
            yield f"it is of peft type {self.peft_type}; only LORA can be served"
        if self.bias != "none":
            yield f"it trains biases (bias {self.bias!r}), which cannot differ within a batch"
        for name in _UNSUPPORTED:
            if (self.model_extra or {}).get(name):
                yield f"it uses {name}, which cannot be served from a shared model"
        if self.init_lora_weights not in _PLAIN_STARTS:
            yield (
                f"init_lora_weights {self.init_lora_weights!r} changed the model's own weights; "
                "save it with path_initial_model_for_weight_conversion of peft"
            )
        rank = max(self.r, *(self.rank_pattern or {}).values(), 1)
        if rank > max_rank:
            yield f"its rank is {rank}; at most {max_rank} is served"
        for pattern in (*(self.rank_pattern or {}), *(self.alpha_pattern or {})):
            if not _PLAIN_PATTERN.fullmatch(pattern):
                yield f"its pattern {pattern!r} is not the name, or the end of the name, of modules"

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's pair."""
        return int(_by_pattern(self.rank_pattern, module, self.r))

    def scaling_of(self, module: str) -> float:
        """Return what a module's pair is multiplied with, as `LoraLayer.update_layer` of peft."""
        rank = self.rank_of(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _by_pattern(patterns: Mapping[str, float] | None, module: str, default: float) -> float:
    return next(
        (value for key, value in (patterns or {}).items() if f".{module}".endswith(f".{key}")),
        default,
    )
