"""The tensor that a model answers, which is written at the edge: as JSON, or as a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ml.errors import InternalError, UnprocessableOutput
from ml.json_text import JsonObject
from ml.models.tensor_model import Array, Label
from ml.workflows.inference.tensor_input import dtype_name

__all__ = ["TensorOutput", "json_form", "require_finite", "tensors_of"]


@dataclass(frozen=True, slots=True, eq=False)
class TensorOutput:
    """A tensor with the name of its elements' type.

    Attributes:
        array: of numbers or booleans, in the machine's byte order; bfloat16 is held as float32.
        dtype: the document's name where it has one, as in a tensor that a caller sends.
        labels: what its columns, or its whole numbers, are called, where the model knows.
    """

    array: Array
    dtype: str
    labels: tuple[Label, ...] | None = None

    @classmethod
    def of(
        cls, array: Array, dtype: str | None = None, labels: Sequence[Label] | None = None
    ) -> Self:
        """Return an array as a tensor; `dtype` names a type that numpy does not have.

        Raises `InternalError` for arrays of anything else than numbers and booleans.
        """
        if array.dtype.kind not in "biufc":
            raise InternalError(f"The model's output is an array of {array.dtype}, not of numbers.")
        native = np.asarray(array, array.dtype.newbyteorder("="))
        named = None if labels is None else tuple(labels)
        return cls(native, dtype or dtype_name(native.dtype), named)

    def to_json(self) -> JsonObject:
        """Return `{"dtype": …, "shape": […], "values": …}`, a legal input of the next container.

        `labels` stand beside the values of a model that has them.
        `values` is an array, which JSON output writes as nested lists. Complex values are
        `[re, im]` pairs, so it has one dimension more than `shape`.
        """
        values: Array = np.asarray(self.array, order="C")
        if values.dtype.kind == "c":
            values = values.reshape(*values.shape, 1).view(values.real.dtype)
        form: JsonObject = {"dtype": self.dtype, "shape": list(self.array.shape), "values": values}
        return form if self.labels is None else {**form, "labels": list(self.labels)}


def json_form(output: object) -> object:
    """Return an output with each tensor in its JSON form."""
    if isinstance(output, TensorOutput):
        return output.to_json()
    if isinstance(output, Mapping):
        return {name: json_form(value) for name, value in output.items()}
    if isinstance(output, list | tuple):
        return [json_form(value) for value in output]
    return output


def tensors_of(output: object) -> list[Array]:
    """Return the arrays of an output's tensors, in the order in which an export has them."""
    if isinstance(output, TensorOutput):
        return [output.array]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [array for item in output for array in tensors_of(item)]
    return []


def require_finite(output: object) -> None:
    """Raise `UnprocessableOutput` with their number if an output holds NaN or infinities.

    JSON has no word for them, and null would read as a missing value.
    """
    if total := _count_non_finite(output):
        count = "1 value that is" if total == 1 else f"{total} values that are"
        raise UnprocessableOutput(f"The model's answer holds {count} NaN or infinite.")


def _count_non_finite(output: object) -> int:
    if isinstance(output, TensorOutput):
        array = output.array
        finite = np.count_nonzero(np.isfinite(array)) if array.dtype.kind in "fc" else array.size
        return array.size - int(finite)
    if isinstance(output, Mapping):
        return sum(map(_count_non_finite, output.values()))
    if isinstance(output, list | tuple):
        return sum(map(_count_non_finite, output))
    return int(isinstance(output, float) and not np.isfinite(output))
