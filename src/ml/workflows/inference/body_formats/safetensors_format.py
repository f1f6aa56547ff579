"""safetensors: tensors by name, as models are stored."""

from __future__ import annotations

import numpy as np

from ml.errors import InvalidInput
from ml.json_text import JsonObject
from ml.workflows.inference.body_formats.body_format import (
    named_tensors,
    no_tensor,
    shaped,
    tensor_data,
    tensors_data,
)

__all__ = ["SafetensorsFormat"]

#: The format's names of the dtypes that models take; all are little-endian.
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "C64": "<c8",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


class SafetensorsFormat:
    """Any number of tensors. Of one input, and of one output, the name says nothing.

    https://github.com/huggingface/safetensors#format
    """

    media_type = b"application/x-safetensors"

    def read(self, body: bytes) -> JsonObject:
        """Return the tensors."""
        from safetensors import SafetensorError, deserialize

        try:
            given = deserialize(body)  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise InvalidInput(f"the body is no safetensors file: {str(error)[:200]}") from None
        if not given:
            raise InvalidInput("the safetensors file holds no tensor")
        return tensors_data({name: _tensor(name, **tensor) for name, tensor in given})

    def write(self, output: object) -> bytes:
        """Return the output's tensors, bfloat16 as float32; the only one is called `output`.

        Those of a list are called 0, 1, …
        """
        from safetensors.numpy import save

        tensors = named_tensors(output)
        return save({name: np.asarray(one.array, order="C") for name, one in tensors.items()})


def _tensor(name: str, dtype: str, shape: list[int], data: bytearray) -> JsonObject:
    if dtype not in _DTYPES:
        raise no_tensor(name, f"expected one of {', '.join(_DTYPES)}; given {dtype}")
    array = shaped(np.frombuffer(data, _DTYPES[dtype]), shape, name=name)
    if dtype != "BF16":
        return tensor_data(array, name=name)
    wide = (array.astype(np.uint32) << 16).view(np.float32)  # its other half
    return tensor_data(wide, "bfloat16")
