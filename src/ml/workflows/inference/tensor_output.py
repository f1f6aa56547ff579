"""The tensor that a caller gets: `{"dtype": …, "shape": […], "values": nested lists}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from ml.errors import InternalError, UnprocessableOutput
from ml.workflows.inference.tensor_input import DTYPES, dtype_name

__all__ = ["array_of", "is_tensor_form", "require_finite", "tensor_form", "tensors_of"]

Array = npt.NDArray[Any]


def tensor_form(array: Array, dtype: str | None = None) -> dict[str, Any]:
    """Return an array of numbers as a tensor; `values` stays an array, which JSON output writes.

    Complex values become `[re, im]` pairs, so `values` has one dimension more than `shape`.
    `dtype` names a type that numpy does not have. Raises `InternalError` for arrays of anything
    else than numbers and booleans.
    """
    if array.dtype.kind not in "biufc":
        raise InternalError(f"The model's output is an array of {array.dtype}, not of numbers.")
    values = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    if values.dtype.kind == "c":
        values = values.reshape(*array.shape, 1).view(values.real.dtype)
    return {"dtype": dtype or dtype_name(array.dtype), "shape": list(array.shape), "values": values}


def is_tensor_form(output: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether an output is one tensor in this form."""
    return isinstance(output, dict) and output.keys() == {"dtype", "shape", "values"}


def array_of(form: Mapping[str, Any]) -> Array:
    """Return the array of a tensor form, complex values included; bfloat16 comes as float32."""
    target = DTYPES.get(form["dtype"])
    values = np.asarray(form["values"])
    if target is None or target.kind != "c":
        return values.astype(target or values.dtype, copy=False).reshape(form["shape"])
    halves = np.ascontiguousarray(values, np.float32 if target.itemsize == 8 else np.float64)
    return halves.view(target).reshape(form["shape"])


def tensors_of(output: Any) -> list[Array]:
    """Return the arrays of an output's tensor forms, in the order in which an export has them."""
    if is_tensor_form(output):
        return [array_of(output)]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list):
        return [tensor for item in output for tensor in tensors_of(item)]
    return []


def require_finite(output: Any) -> None:
    """Raise `UnprocessableOutput` with their number if an output holds NaN or infinities.

    JSON has no word for them, and null would read as a missing value.
    """
    if total := _count_non_finite(output):
        count = "1 value that is" if total == 1 else f"{total} values that are"
        raise UnprocessableOutput(f"The model's answer holds {count} NaN or infinite.")


def _count_non_finite(output: Any) -> int:
    if isinstance(output, np.ndarray):
        if output.dtype.kind != "f":
            return 0
        return output.size - int(np.count_nonzero(np.isfinite(output)))
    if isinstance(output, Mapping):
        return sum(map(_count_non_finite, output.values()))
    if isinstance(output, list | tuple):
        return sum(map(_count_non_finite, output))
    return int(isinstance(output, float) and not np.isfinite(output))
