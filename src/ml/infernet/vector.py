"""Tensors as ABI bytes, in the form of infernet-ml 2.0.0 (`RitualVector`).

`abi.encode(uint8 arithmetic, uint8 decimals, uint8 dtype, uint16[] shape, T[] values)`, where `T`
depends on the dtype and `values` are in C order.

| dtype | T with IEEE arithmetic | T with fixed point |
|---|---|---|
| float16, float32, float64 | int16, int32, int64: the IEEE-754 bits | the same integer, scaled |
| float128, float256 | int128, int256: the bits of a float64 | the same integer, scaled |
| int8 … uint64 | the integer | the integer, not scaled |
| complex64, complex128 | uint64, uint128: real, then imaginary half as bits | halves scaled |
| bool | bool | bool |

Fixed point is always written as float128, that is, int128 scaled by `10**decimals`; the other
fixed-point forms are only read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ml.errors import InvalidInput, UnprocessableOutput
from ml.infernet.fixed_point import (
    floats_from_words,
    words_from_floats,
    words_from_integers,
)
from ml.infernet.words import (
    WORD_BYTES,
    Words,
    pack,
    pack_uints,
    read_count,
    read_head,
    read_uints,
    read_words,
    require_offset,
    require_uint8,
    require_width,
    signed_words,
    uint_words,
)

__all__ = ["Arithmetic", "DataType", "Vector", "decode_vector", "encode_vector"]

Array = npt.NDArray[Any]

Member = TypeVar("Member", bound=IntEnum)

_HEAD = ("arithmetic", "decimals", "dtype", "shape", "values")
_MAX_RANK = 64  # of a numpy array


class DataType(IntEnum):
    """The element types of a tensor, by their number on the wire."""

    FLOAT16 = 0
    FLOAT32 = 1
    FLOAT64 = 2
    #: 128 bits on the wire; held as float64, here and in infernet-ml
    FLOAT128 = 3
    #: 256 bits on the wire; held as float64, here and in infernet-ml
    FLOAT256 = 4
    INT8 = 5
    INT16 = 6
    INT32 = 7
    INT64 = 8
    UINT8 = 9
    UINT16 = 10
    UINT32 = 11
    UINT64 = 12
    COMPLEX64 = 13
    COMPLEX128 = 14
    BOOL = 15

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The numpy dtype that holds such values."""
        return _FORMS[self].dtype

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        """Return the element type of a numpy dtype of any byte order.

        Raises:
            UnprocessableOutput: there is none, as for strings, objects and long doubles.
        """
        data_type = _DATA_TYPES.get(dtype.newbyteorder("="))
        if data_type is None:
            raise UnprocessableOutput(f"Values of type {dtype} cannot be sent as a tensor.")
        return data_type


class Arithmetic(IntEnum):
    """How numbers that are not integers are written."""

    #: the bits of IEEE-754, read as an integer of the same width
    IEEE = 0
    #: int128 scaled by 10**decimals, as for token balances
    FIXED_POINT = 1


#: By their numbers: an enumeration takes longer to find one.
_ALL_TYPES, _ARITHMETICS = tuple(DataType), tuple(Arithmetic)
_FIXED_POINT = Arithmetic.FIXED_POINT


class _Form(NamedTuple):
    dtype: np.dtype[Any]
    bits: int
    signed: bool


_FORMS = {
    DataType.FLOAT16: _Form(np.dtype(np.float16), 16, True),
    DataType.FLOAT32: _Form(np.dtype(np.float32), 32, True),
    DataType.FLOAT64: _Form(np.dtype(np.float64), 64, True),
    DataType.FLOAT128: _Form(np.dtype(np.float64), 128, True),
    DataType.FLOAT256: _Form(np.dtype(np.float64), 256, True),
    DataType.INT8: _Form(np.dtype(np.int8), 8, True),
    DataType.INT16: _Form(np.dtype(np.int16), 16, True),
    DataType.INT32: _Form(np.dtype(np.int32), 32, True),
    DataType.INT64: _Form(np.dtype(np.int64), 64, True),
    DataType.UINT8: _Form(np.dtype(np.uint8), 8, False),
    DataType.UINT16: _Form(np.dtype(np.uint16), 16, False),
    DataType.UINT32: _Form(np.dtype(np.uint32), 32, False),
    DataType.UINT64: _Form(np.dtype(np.uint64), 64, False),
    DataType.COMPLEX64: _Form(np.dtype(np.complex64), 64, False),
    DataType.COMPLEX128: _Form(np.dtype(np.complex128), 128, False),
    DataType.BOOL: _Form(np.dtype(np.bool_), 1, False),
}
#: By the numpy dtype; float64 is the first of three.
_DATA_TYPES = {form.dtype: data_type for data_type, form in reversed(_FORMS.items())}


class Vector(NamedTuple):
    """A decoded tensor and how it was written.

    Attributes:
        values: of the message's shape and `dtype.numpy_dtype`; native byte order.
        dtype: the element type on the wire (float128 is held as float64).
        arithmetic: how the values were written.
        decimals: decimal places of the fixed point, 0 to 255; without meaning for IEEE.
    """

    values: Array
    dtype: DataType
    arithmetic: Arithmetic = Arithmetic.IEEE
    decimals: int = 18


def encode_vector(
    values: npt.ArrayLike,
    *,
    dtype: DataType | None = None,
    arithmetic: Arithmetic = Arithmetic.IEEE,
    decimals: int = 18,
) -> bytes:
    """Return a tensor of any shape as ABI bytes.

    `dtype` is that of the values by default; a given one converts them within their kind (float64
    to float32) or to a wider kind (int64 to float64). Fixed point is written as float128 whatever
    the dtype. Integers are scaled exactly; floats are scaled in float64 and truncated.

    Raises:
        UnprocessableOutput: the values have no such dtype or do not fit it, or int128 for fixed
            point; they are NaN, infinite or complex in fixed point; a dimension is over 65535; or
            decimals are not within 0 to 255.
    """
    if not 0 <= decimals <= 0xFF:
        raise UnprocessableOutput(f"decimals must be 0 to 255, not {decimals}.")
    array = _as_array(values)
    dtype = DataType.from_numpy(array.dtype) if dtype is None else dtype
    flat = _convert(array, dtype).reshape(-1)
    if arithmetic is _FIXED_POINT:
        words, dtype = _scale(flat, decimals), DataType.FLOAT128
    else:
        words = _words_of_bits(flat, _FORMS[dtype])
    return _message(arithmetic, decimals, dtype, array.shape, words)


def decode_vector(data: bytes) -> Vector:
    """Return the tensor of such ABI bytes.

    Floats come back bit for bit with IEEE arithmetic, and as the float64 nearest to the exact
    decimal with fixed point (then rounded to the dtype, for float16 and float32).

    Raises:
        InvalidInput: the bytes are not canonical ABI of this form, name an unknown arithmetic or
            dtype, or the shape does not multiply to the number of values.
    """
    numbers = read_head(data, _HEAD)
    arithmetic = _member(_ARITHMETICS, numbers[0], "arithmetic")
    decimals = require_uint8(numbers[1], "decimals")
    dtype = _member(_ALL_TYPES, numbers[2], "dtype")
    shape = _read_shape(data, require_offset(numbers[3], data, len(_HEAD), "shape"))
    words = read_words(data, require_offset(numbers[4], data, len(_HEAD), "values"), "values")
    form = _FORMS[dtype]
    if arithmetic is _FIXED_POINT and form.dtype.kind in "fc":
        flat = _unscale(words, form, decimals)
    else:
        flat = _bits_of_words(words, form)
    return Vector(_shaped(flat, shape), dtype, arithmetic, decimals)


def _member(members: tuple[Member, ...], number: int, field: str) -> Member:
    if number >= len(members):
        require_uint8(number, field)
        known = ", ".join(f"{member.value} {member.name.lower()}" for member in members)
        raise InvalidInput(f"{field}: {number} is not one of {known}.")
    return members[number]


def _as_array(values: npt.ArrayLike) -> Array:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise UnprocessableOutput("The values do not form a tensor.") from None
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _convert(array: Array, dtype: DataType) -> Array:
    """Return the values in the dtype's numpy form, or refuse where they would change kind."""
    target = dtype.numpy_dtype
    if array.dtype == target:
        return array
    if array.dtype.kind not in "biufc" or not np.can_cast(array.dtype, target, "same_kind"):
        raise UnprocessableOutput(f"{array.dtype} values cannot be sent as {dtype.name.lower()}.")
    with np.errstate(over="ignore"):
        converted = array.astype(target)
    if target.kind in "fc":
        fits = np.isfinite(converted) == np.isfinite(array)
    else:
        fits = converted == array
    if not fits.all():
        raise UnprocessableOutput(f"A value does not fit {dtype.name.lower()}.")
    return converted


def _scale(flat: Array, decimals: int) -> Words:
    if flat.dtype.kind == "c":
        raise UnprocessableOutput("Complex values have no fixed-point form; use IEEE arithmetic.")
    if flat.dtype.kind == "f":
        return words_from_floats(flat.astype(np.float64, copy=False), decimals)
    wide = np.uint64 if flat.dtype.kind == "u" else np.int64
    return words_from_integers(flat.astype(wide, copy=False), decimals)


def _unscale(words: Words, form: _Form, decimals: int) -> Array:
    if form.dtype.kind == "f":
        floats = floats_from_words(words, decimals, bits=form.bits, field="values")
        return floats.astype(form.dtype, copy=False)
    _require_width(words, form)
    if form.bits == 64:  # one limb holds both halves, as int32
        halves = _halves(words[3]).view(np.int32).astype(np.int64)
    else:
        halves = np.ascontiguousarray(words[2:].T)
    words = signed_words(halves.reshape(-1))
    parts = floats_from_words(words, decimals, bits=64, field="values")
    return parts.view(np.complex128).astype(form.dtype, copy=False)


def _words_of_bits(flat: Array, form: _Form) -> Words:
    size = flat.dtype.itemsize
    if form.dtype.kind != "c":
        if form.signed:
            return signed_words(flat.view(f"i{size}").astype(np.int64, copy=False))
        return uint_words(flat.view(f"u{size}").astype(np.uint64, copy=False))
    if form.bits == 64:
        halves = flat.view(np.uint32).reshape(-1, 2).astype(np.uint64)
        return uint_words((halves[:, 0] << np.uint64(32)) | halves[:, 1])
    words = np.zeros((4, flat.size), np.int64)
    words[2:] = flat.view(np.int64).reshape(-1, 2).T
    return words


def _require_width(words: Words, form: _Form) -> None:
    require_width(words, form.bits, signed=form.signed, field="values")


def _bits_of_words(words: Words, form: _Form) -> Array:
    _require_width(words, form)
    if form.dtype.kind != "c":
        if form.bits > 64:
            require_width(words, 64, signed=True, field="values")  # a float64 sign-extended
        bits: Array = words[3].astype(f"u{form.dtype.itemsize}")
        return bits.view(form.dtype)
    halves: Array = _halves(words[3]) if form.bits == 64 else np.ascontiguousarray(words[2:].T)
    return halves.view(form.dtype).reshape(-1)


def _halves(limbs: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Return the upper and lower 32 bits of each limb, shape `(n, 2)`."""
    return np.stack((limbs >> 32, limbs & 0xFFFF_FFFF), axis=1).astype(np.uint32)


def _read_shape(data: bytes, offset: int) -> list[int]:
    count = read_count(data, offset, "shape")
    if count > _MAX_RANK:
        raise InvalidInput(f"shape: it has {count} dimensions, over {_MAX_RANK}.")
    shape = read_uints(data, offset + WORD_BYTES, count)
    if shape and max(shape) > 0xFFFF:
        raise InvalidInput("shape: a value does not fit ABI type uint16.")
    return shape


def _shaped(flat: Array, shape: list[int]) -> Array:
    try:
        return flat.reshape(shape)
    except ValueError:
        if math.prod(shape) != flat.size:
            raise InvalidInput(f"shape: {shape} does not hold the {flat.size} values.") from None
        # an empty tensor whose other dimensions multiply beyond the address space
        raise InvalidInput(f"shape: {shape} is too large.") from None


def _message(
    arithmetic: Arithmetic, decimals: int, dtype: DataType, shape: Sequence[int], values: Words
) -> bytes:
    if max(shape, default=0) > 0xFFFF:
        raise UnprocessableOutput(f"shape: {list(shape)} has a dimension over 65535 (uint16).")
    shape_offset = len(_HEAD) * WORD_BYTES
    values_offset = shape_offset + (1 + len(shape)) * WORD_BYTES
    head = (arithmetic, decimals, dtype, shape_offset, values_offset)
    return pack_uints([*head, len(shape), *shape, values.shape[1]]) + pack(values)
