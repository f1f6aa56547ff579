"""The loss where there is no GPU: SFTTrainer's own is a Triton kernel, which has no CPU form."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn.functional import cross_entropy

__all__ = ["completion_loss", "keeps_chosen_logits"]


def keeps_chosen_logits(model: Any) -> bool:
    """Return whether a causal model can be asked for the logits of some positions alone.

    A mixture of experts adds a loss of its own, which comes with all logits only.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(base.forward).parameters
    return "logits_to_keep" in takes and not hasattr(base.config, "router_aux_loss_coef")


def completion_loss(
    model: Any, inputs: dict[str, torch.Tensor], items: torch.Tensor | int | None
) -> torch.Tensor:
    """Return the mean cross-entropy of the labelled tokens.

    `inputs` has `labels` of shape `(rows, tokens)`, -100 where nothing is trained. `items` is the
    number of labelled tokens in all batches of the step; None is this batch's. The output layer
    computes only the positions before a label: for a vocabulary of 50 000 and short answers that
    is most of its work saved.
    """
    targets = inputs["labels"][:, 1:]
    positions = (targets != -100).any(0).nonzero().squeeze(-1)
    targets = targets[:, positions]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, use_cache=False, logits_to_keep=positions).logits
    total = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")
    return total / ((targets != -100).sum() if items is None else items)
