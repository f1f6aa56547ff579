"""Several inputs in one run of a torch model, and the proof that it may be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["all_close", "group_alike", "split_rows"]

#: Relative to an output's largest value: far over what rounding differs between batch sizes, far
#: under what a model does that mixes rows. By element size in bytes; 2 is half and bfloat16.
_TOLERANCE = {2: 0.05, 4: 1e-3, 8: 1e-6}


def group_alike(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Return the positions of tensors that differ in their first dimension only, group by group.

    A tensor of less than two dimensions has no rows, so it stays alone.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, tensor in enumerate(tensors):
        alike = (tensor.dtype, tensor.shape[1:]) if tensor.ndim >= 2 else position
        groups[alike].append(position)
    return list(groups.values())


def split_rows(output: Any, sizes: list[int]) -> list[Any] | None:
    """Return the output for each input of `sizes` rows; None if it does not have the same rows.

    Tuples, lists and dicts of tensors are split within.
    """
    import torch

    if isinstance(output, torch.Tensor):
        if output.ndim == 0 or output.shape[0] != sum(sizes):
            return None
        return list(torch.split(output, sizes))
    if isinstance(output, Mapping):
        rows = _split_all(list(output.values()), sizes)
        return rows and [dict(zip(output, row, strict=True)) for row in rows]
    if isinstance(output, list | tuple):
        return _split_all(output, sizes)
    return None


def _split_all(outputs: Sequence[Any], sizes: list[int]) -> list[Any] | None:
    columns = [split_rows(output, sizes) for output in outputs]
    if not columns or any(column is None for column in columns):
        return None
    return [list(row) for row in zip(*filter(None, columns), strict=True)]


def all_close(one: Any, other: Any) -> bool:
    """Return whether two outputs are the same but for rounding; NaN equals NaN."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and _tensors_close(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(all_close(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(all_close, one, other))


def _tensors_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.dtype.is_floating_point and not one.dtype.is_complex:
        return torch.equal(one, other)
    finite = one[torch.isfinite(one)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    tolerance = _TOLERANCE[one.real.dtype.itemsize] * largest
    return torch.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
