"""A form of a tensor's bytes, and what all forms have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from ml.errors import InvalidInput, UnprocessableOutput
from ml.json_text import JsonObject
from ml.models.tensor_model import Array
from ml.workflows.inference.tensor_input import DTYPES, dtype_name
from ml.workflows.inference.tensor_output import TensorOutput

__all__ = [
    "OUTPUT",
    "BodyFormat",
    "named_tensors",
    "no_tensor",
    "shaped",
    "tensor_data",
    "tensors_data",
]

#: What an answer's only tensor is called where each has a name.
OUTPUT = "output"


class BodyFormat(Protocol):
    """Reads the `data` of an OFFCHAIN request, and writes an output, as bytes.

    NaN and infinities pass in both directions, unlike in JSON.
    """

    media_type: bytes

    def read(self, body: bytes) -> JsonObject:
        """Return what JSON's `data` would be, with arrays in place of lists.

        Raises `InvalidInput` for bytes that are no such body.
        """

    def write(self, output: object) -> bytes:
        """Return an output of tensors; raises `UnprocessableOutput` for what has no place."""


def no_tensor(name: str, why: str) -> InvalidInput:
    """Return why a body's tensor is none; its name, of any length, is told as far as it helps."""
    return InvalidInput(f"{name[:100]}: {why}" if name else why)


def shaped(
    flat: Array, shape: Sequence[int], *, name: str = "", order: Literal["C", "F"] = "C"
) -> Array:
    """Return elements in a shape that a body names, which may be any that can be written.

    Raises `InvalidInput` for one that no array has: of other elements, negative, or too long.
    """
    try:
        if any(isinstance(length, bool) or length < 0 for length in shape):
            raise ValueError("a length is a number, at least 0")
        return flat.reshape(shape, order=order)
    except (ValueError, OverflowError) as error:
        why = f"no tensor has the shape {str(list(shape))[:100]}: {error}"
        raise no_tensor(name, why) from None


def tensor_data(array: Array, dtype: str | None = None, name: str = "") -> JsonObject:
    """Return one tensor as the `data` of a request has it; `dtype` names one that numpy lacks.

    Raises `InvalidInput` for elements that no model takes.
    """
    native = np.asarray(array, array.dtype.newbyteorder("="))
    known = dtype or dtype_name(native.dtype)
    if known not in DTYPES:
        due = ", ".join(sorted({str(one) for one in DTYPES.values()}))
        raise no_tensor(name, f"expected elements of {due}; given {native.dtype}")
    return {"dtype": known, "values": native}


def tensors_data(tensors: Mapping[str, JsonObject]) -> JsonObject:
    """Return tensors with names: a single one as a tensor, which needs no name."""
    return next(iter(tensors.values())) if len(tensors) == 1 else {"inputs": dict(tensors)}


def named_tensors(output: object) -> dict[str, TensorOutput]:
    """Return an output's tensors by their names; those of a list are called by their numbers.

    Raises `UnprocessableOutput` where something in it is no tensor.
    """
    if isinstance(output, TensorOutput):
        return {OUTPUT: output}
    if isinstance(output, Mapping):
        pairs = [(str(name), value) for name, value in output.items()]
    elif isinstance(output, list | tuple):
        pairs = [(str(number), value) for number, value in enumerate(output)]
    else:
        raise UnprocessableOutput(
            "The answer holds something that is no tensor: ask with 'Accept: application/json'."
        )
    found: dict[str, TensorOutput] = {}
    for name, value in pairs:
        inner = named_tensors(value)
        own = isinstance(value, TensorOutput)
        found |= {name if own else f"{name}.{one}": tensor for one, tensor in inner.items()}
    return found
