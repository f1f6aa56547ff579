"""Attention on the CPU that does not copy keys and values for each head that shares them.

transformers repeats them whenever there is a mask; PyTorch's own operation takes them as they are
(`enable_gqa`), with the same results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

__all__ = ["use_grouped_attention"]

_NAME = "sdpa_grouped"


def use_grouped_attention(model: Any) -> None:
    """Let a model on the CPU that uses `sdpa` attend without those copies."""
    if model.device.type == "cpu" and model.config.get_text_config()._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", True))
    output = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=dropout,
        scale=scaling,
        is_causal=is_causal and attention_mask is None and query.shape[2] > 1,
        enable_gqa=True,
    )
    return output.transpose(1, 2).contiguous(), None
