"""Torch's own errors, told apart: a wrong input, too little memory, or a fault of the model."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from ml.errors import InvalidInput, OutOfMemory, ServiceError

if TYPE_CHECKING:
    import torch

__all__ = ["explain", "torch_dtype_name", "torch_dtype_names"]

# How torch 2.6 to 2.13 words that an input does not fit a model; such lines hold shapes and types,
# never values.
_WRONG_INPUT = re.compile(
    r"shapes? (?:cannot be multiplied|'.*' is invalid for input)|size mismatch"
    r"|same dtype|bias type|weight type|expected scalar type|not implemented for"
    r"|not supported for|following scalar types"
    r"|[Ee]xpected input|[Ee]xpected .*\bto have\b|[Ee]xpected \d+D|(?:tensor|input) expected"
    r"|expected .*\bgot\b|(?:Expected|got) .*\binput\b|must match the size of tensor"
    r"|Sizes of tensors must match|same number of dimensions|must be equal to input_size"
    r"|should contain \d+ elements not|too many indices|Dimension out of range"
    r"|to be at least \d+D|does not match weight size|embedding dimension"
    r"|greater than actual input size|Guard failed|mat[12]"
)
_OUT_OF_RANGE = re.compile(r"index out of range|index .* is out of bounds")
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|STATUS_ALLOC_FAILED", re.IGNORECASE
)


@cache
def torch_dtype_names() -> dict[torch.dtype, str]:
    """Return the document's name of each torch dtype: torch's own names for them."""
    import torch

    from ml.workflows.inference.tensor_input import DTYPES

    return {getattr(torch, name): name for name in DTYPES}


def torch_dtype_name(dtype: torch.dtype) -> str:
    """Return the document's name of a dtype, or torch's for one that it does not know."""
    return torch_dtype_names().get(dtype, str(dtype).removeprefix("torch."))


def explain(error: Exception, tensor: torch.Tensor) -> ServiceError | None:
    """Return what a failed run means for its caller; None for a fault that is not the input's.

    A wrong shape or dtype is an `InvalidInput` with torch's line on what was expected and given;
    full memory, of the GPU or of this machine, is an `OutOfMemory`.
    """
    text = str(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return OutOfMemory()
    given = f"a tensor of shape {list(tensor.shape)} and dtype {torch_dtype_name(tensor.dtype)!r}"
    if _OUT_OF_RANGE.search(text):
        return InvalidInput(f"values: the model has no entry for an index in {given}")
    if isinstance(error, RuntimeError | ValueError | IndexError | AssertionError):
        for line in reversed(text.splitlines()):  # TorchScript has its traceback in front
            if _WRONG_INPUT.search(line):
                reason = line.strip().removeprefix("RuntimeError: ")[:300]
                return InvalidInput(f"values: the model does not take {given}: {reason}")
    return None
