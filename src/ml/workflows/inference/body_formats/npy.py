"""numpy's own format: `numpy.save` and `numpy.load`."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.lib import format as npy

from ml.errors import InvalidInput, UnprocessableOutput
from ml.json_text import JsonObject
from ml.workflows.inference.body_formats.body_format import named_tensors, shaped, tensor_data

__all__ = ["NpyFormat"]

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpyFormat:
    """One tensor. Arrays of objects, which are pickled, are refused.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """

    media_type = b"application/x-npy"

    def read(self, body: bytes) -> JsonObject:
        """Return the tensor; its values share the body's memory."""
        file = io.BytesIO(body)
        try:
            read_header = _HEADERS[npy.read_magic(file)]
        except (ValueError, KeyError) as error:
            raise InvalidInput(f"the body is no .npy file that is read: {error}") from None
        try:
            shape, is_fortran, dtype = read_header(file)
        except Exception as error:  # of whichever kind: a header is an expression of Python
            # What follows the colon is the header itself, or an object of Python's by its address.
            why = f"{type(error).__name__}: {str(error).partition(': ')[0][:200]}"
            raise InvalidInput(f"the body is no .npy file; its header: {why}") from None
        if dtype.hasobject or dtype.names or dtype.subdtype or not dtype.itemsize:
            raise InvalidInput("the .npy file holds no plain numbers: save an array of numbers")
        begin, due = file.tell(), math.prod(shape) * dtype.itemsize
        if len(body) - begin != due:
            raise InvalidInput(
                f"the .npy file should have {due} bytes behind its header for shape "
                f"{str(list(shape))[:100]} of {dtype}; it has {len(body) - begin}"
            )
        flat = np.frombuffer(body, dtype, offset=begin) if due else np.empty(0, dtype)
        return tensor_data(shaped(flat, shape, order="F" if is_fortran else "C"))

    def write(self, output: object) -> bytes:
        """Return the output's only tensor."""
        tensors = list(named_tensors(output).values())
        if len(tensors) != 1:
            raise UnprocessableOutput(
                f"An .npy file holds one tensor, and the answer {len(tensors)}: ask with "
                "'Accept: application/x-safetensors' or 'Accept: application/json'."
            )
        array = np.ascontiguousarray(tensors[0].array).reshape(tensors[0].array.shape)
        header = io.BytesIO()
        npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(array))
        return b"".join((header.getvalue(), array.data))
