"""Linear layers with a second, 8-bit copy of their weights, read when a call has few rows."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import nn
from torch.nn.functional import linear

__all__ = ["Int8Linear", "quantize_linears"]

#: Up to here the 8-bit kernel was faster on every processor measured: with few rows reading the
#: weights takes the time, with many the arithmetic, which bfloat16 does better.
MOST_ROWS = 8
#: The bfloat16 kernel takes the inputs 16 at a time and has no rest: with other numbers it reads
#: beyond its memory (torch 2.13).
_INPUTS_MULTIPLE = 16


class Int8Linear(nn.Module):
    """A bfloat16 `nn.Linear` on the CPU, for inference.

    bfloat16 `[..., in_features]` becomes bfloat16 `[..., out_features]`. Calls with at most
    `most_rows` rows read 8-bit weights, the others the unchanged bfloat16 ones; both are kept, in
    1.5 times the memory. Each output channel has one scale, max|w| / 127, in bfloat16.
    """

    codes: torch.Tensor  # int8 [out_features, in_features]
    scales: torch.Tensor  # bfloat16 [out_features]

    def __init__(self, original: nn.Linear, *, most_rows: int = MOST_ROWS) -> None:
        super().__init__()
        self.in_features = original.in_features
        self.out_features = original.out_features
        self.most_rows = most_rows
        # The parameters themselves: an output layer goes on sharing its weights with the embedding.
        self.weight, self.bias = original.weight, original.bias
        codes, scales = _quantized(original.weight.detach())
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return `inputs @ weight.T + bias`."""
        if inputs.numel() > self.most_rows * self.in_features:
            return linear(inputs, self.weight, self.bias)
        rows = inputs.reshape(-1, self.in_features).contiguous()
        outputs: torch.Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales)
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.reshape(*inputs.shape[:-1], self.out_features)


def quantize_linears(model: nn.Module) -> None:
    """Replace the bfloat16 linear layers inside a model on the CPU, adapters already merged.

    Layers whose number of inputs is no multiple of 16 stay as they are, and so do subclasses of
    `nn.Linear`, which may compute something else.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _is_supported(child):
                setattr(parent, name, Int8Linear(child))


def _is_supported(module: nn.Module) -> TypeGuard[nn.Linear]:
    return (
        type(module) is nn.Linear
        and module.weight.dtype == torch.bfloat16
        and module.in_features % _INPUTS_MULTIPLE == 0
    )


def _quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    exact = weight.float()
    # The codes are made for the scale as it is stored; its rounding, by 1/256 at most, leaves them
    # below 127.5. A row of zeros needs a scale above zero.
    scales = (exact.abs().amax(dim=1) / 127).clamp(min=1e-30).bfloat16()
    codes = (exact / scales.float()[:, None]).round().to(torch.int8)
    return codes, scales
