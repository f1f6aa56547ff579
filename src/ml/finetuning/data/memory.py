"""How much memory a LoRA training takes, from the shape of the model alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ml.finetuning.data.report import MemoryEstimate
from ml.finetuning.request import TrainingParameters

__all__ = ["ModelShape", "estimate_memory"]

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder in the manner of Llama; `experts` is 1 without a mixture of them."""

    hidden: int
    intermediate: int
    layers: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool
    experts: int = 1

    @classmethod
    def of(cls, config: Any) -> Self | None:
        """Return the shape that a model's configuration tells, or None if it is of another kind."""
        text = config.get_text_config()
        try:
            hidden, heads = text.hidden_size, text.num_attention_heads
            head = getattr(text, "head_dim", None) or hidden // heads
            return cls(
                hidden=hidden,
                intermediate=getattr(text, "intermediate_size", None) or 4 * hidden,
                layers=text.num_hidden_layers,
                query=heads * head,
                key_value=(getattr(text, "num_key_value_heads", None) or heads) * head,
                vocabulary=text.vocab_size,
                tied=bool(getattr(text, "tie_word_embeddings", False)),
                experts=getattr(text, "num_local_experts", None)
                or getattr(text, "num_experts", None)
                or 1,
            )
        except AttributeError:
            return None

    def linears(self) -> dict[str, tuple[int, int]]:
        """Return the inputs and outputs of each linear of a layer."""
        hidden = self.hidden
        return {
            "q_proj": (hidden, self.query),
            "k_proj": (hidden, self.key_value),
            "v_proj": (hidden, self.key_value),
            "o_proj": (self.query, hidden),
            "gate_proj": (hidden, self.intermediate),
            "up_proj": (hidden, self.intermediate),
            "down_proj": (self.intermediate, hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Parameters of all layers' linears."""
        sizes = {name: rows * columns for name, (rows, columns) in self.linears().items()}
        attention = sum(sizes[name] for name in _ATTENTION)
        return self.layers * (attention + self.experts * sum(sizes[name] for name in _MLP))


def estimate_memory(
    shape: ModelShape, parameters: TrainingParameters, longest: int
) -> MemoryEstimate:
    """Return the bytes at the peak of a training step; `longest` is the longest example in tokens.

    With T = batch size · longest (· `max_seq_length` when packed), L layers, hidden H,
    intermediate I, vocabulary V, and A the inputs of a layer's tuned linears:

        weights      V·H·(1 or 2)·2 + linears·2, or linears·0.56 with load_in_4bit
        adapter      16 · parameters of the LoRA (weight, gradient and Adam's two, in float32)
        activations  T·L·(2·(8·H + 4·I) + 4·A);  with gradient checkpointing L is 1, + T·L·H·2
        logits       14·T·V (bfloat16 and its gradient, float32 and its gradient, the loss)

    What the process itself takes, about 0.8 GB for the libraries, comes on top.
    """
    linears = shape.linears()
    chosen = parameters.target_modules
    tuned = [linears[name] for name in linears if chosen == "all-linear" or name in chosen]
    trainable = parameters.lora_r * shape.layers * sum(a + b for a, b in tuned)
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    linear_bytes = 0.56 if parameters.load_in_4bit else 2
    weights = int(embeddings * 2 + shape.linear_parameters * linear_bytes)
    length = parameters.max_seq_length if parameters.packing else longest
    tokens = parameters.per_device_train_batch_size * length
    kept = 2 * (8 * shape.hidden + 4 * shape.intermediate) + 4 * sum(a for a, _ in tuned)
    if parameters.gradient_checkpointing:
        activations = tokens * (kept + shape.layers * shape.hidden * 2)
    else:
        activations = tokens * shape.layers * kept
    logits = 14 * tokens * shape.vocabulary
    return MemoryEstimate(
        total_bytes=weights + 16 * trainable + activations + logits,
        weights_bytes=weights,
        adapter_bytes=16 * trainable,
        activations_bytes=activations,
        logits_bytes=logits,
        trainable_parameters=trainable,
    )
