"""Requests to a service that answers tensors with tensors.

`abi.encode(bytes model_id, bytes vector[, uint8 output_arithmetic[, uint8 output_decimals]])`, as
the torch and onnx services of infernet-ml 2.0.0 read it. ABI data does not name its types, so the
number of fields is told from where the first tail begins: right behind the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from eth_abi.abi import encode

from ml.errors import InvalidInput, UnprocessableOutput
from ml.infernet.legacy import LEGACY_DECIMALS, decode_legacy, is_legacy
from ml.infernet.model_id import decode_model_id, encode_model_id
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector, encode_vector
from ml.infernet.words import WORD_BYTES, read_bytes, read_offset, read_uint8

__all__ = ["TensorRequest", "decode_torch_input", "named_model"]


@dataclass(frozen=True, eq=False)
class TensorRequest:
    """A tensor for a model, and the form in which the answer is due.

    Attributes:
        vector: the model's input.
        model_id: which model, as readable text; "" for the service's own.
        output_arithmetic: of the answer; None when the request does not say.
        output_decimals: 0 to 255, decimal places of a fixed-point answer; None when not said.
    """

    vector: Vector
    model_id: str = ""
    output_arithmetic: Arithmetic | None = None
    output_decimals: int | None = None

    def encode(self) -> bytes:
        """Return the request as ABI bytes.

        Raises:
            UnprocessableOutput: as `encode_vector` and `encode_model_id`, or output_decimals are
                given without output_arithmetic or not within 0 to 255.
        """
        vector = encode_vector(
            self.vector.values,
            dtype=self.vector.dtype,
            arithmetic=self.vector.arithmetic,
            decimals=self.vector.decimals,
        )
        options = self._options()
        types = ["bytes", "bytes"] + ["uint8"] * len(options)
        return encode(types, [encode_model_id(self.model_id), vector, *options])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the request of ABI bytes.

        A third field over 1 without a fourth is the number of decimals: infernet-ml leaves the
        arithmetic out when only decimals are asked for.

        Raises:
            InvalidInput: the data is no such encoding; the description names the field.
        """
        model_offset = read_offset(data, 0, 2, "model_id")
        vector_offset = read_offset(data, WORD_BYTES, 2, "vector")
        head_bytes = min(model_offset, vector_offset)
        if head_bytes not in (2 * WORD_BYTES, 3 * WORD_BYTES, 4 * WORD_BYTES):
            raise InvalidInput("The ABI data is not (bytes, bytes[, uint8[, uint8]]).")
        arithmetic, decimals = _read_options(data, head_bytes // WORD_BYTES - 2)
        model_id = decode_model_id(read_bytes(data, model_offset, "model_id"))
        vector = decode_vector(read_bytes(data, vector_offset, "vector"))
        return cls(vector, model_id, arithmetic, decimals)

    def _options(self) -> list[int]:
        if self.output_decimals is None:
            return [] if self.output_arithmetic is None else [self.output_arithmetic]
        if self.output_arithmetic is None:
            raise UnprocessableOutput("output_decimals need an output_arithmetic.")
        if not 0 <= self.output_decimals <= 0xFF:
            raise UnprocessableOutput(f"output_decimals must be 0 to 255: {self.output_decimals}.")
        return [self.output_arithmetic, self.output_decimals]


def decode_torch_input(data: bytes) -> TensorRequest:
    """Return a tensor request or, when the data is a legacy `int256[]`, one made of its one row.

    The legacy form names no model and yields float64 values of shape `(1, n)`. A caller that has
    to answer in the legacy form too asks `is_legacy(data)`.

    Raises:
        InvalidInput: the data is neither.
    """
    if not is_legacy(data):
        return TensorRequest.decode(data)
    row = decode_legacy(data)[np.newaxis, :]
    return TensorRequest(Vector(row, DataType.FLOAT64, Arithmetic.FIXED_POINT, LEGACY_DECIMALS))


def named_model(data: bytes) -> str:
    """Return the model that a request names, "" for none; its vector is not read.

    Raises:
        InvalidInput: the data is no request.
    """
    if is_legacy(data):
        return ""
    return decode_model_id(read_bytes(data, read_offset(data, 0, 2, "model_id"), "model_id"))


def _read_options(data: bytes, count: int) -> tuple[Arithmetic | None, int | None]:
    if count == 0:
        return None, None
    first = read_uint8(data, 2 * WORD_BYTES, "output_arithmetic")
    if count == 1 and first > max(Arithmetic):
        return None, first
    if first > max(Arithmetic):
        raise InvalidInput(f"output_arithmetic: {first} is neither 0 (IEEE) nor 1 (fixed point).")
    decimals = read_uint8(data, 3 * WORD_BYTES, "output_decimals") if count == 2 else None
    return Arithmetic(first), decimals
