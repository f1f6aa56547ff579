"""The 32-byte words that Solidity ABI data is made of, many at a time.

Format: Solidity ABI specification, "Formal Specification of the Encoding". A word is held as four
64-bit limbs, most significant first, as the signed numbers of their bits; `n` words are a `(4, n)`
int64 array.

Reading is strict, as in eth_abi: padding must be canonical, offsets must lie behind the head.
Every reader checks lengths against the data before it allocates, and raises only InvalidInput.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ml.errors import InvalidInput

__all__ = [
    "WORD_BYTES",
    "Words",
    "pack",
    "pack_uints",
    "read_bytes",
    "read_count",
    "read_head",
    "read_offset",
    "read_text",
    "read_uint",
    "read_uint8",
    "read_uints",
    "read_words",
    "require_offset",
    "require_uint8",
    "require_width",
    "signed_words",
    "uint_words",
]

WORD_BYTES = 32

_BIG_ENDIAN, _NATIVE = np.dtype(">i8"), np.dtype(np.int64)
#: Words that are checked at a time: their copies stay in the processor's cache.
_BLOCK = 4096
_STRIDES = (8, WORD_BYTES)  # in bytes, of limbs and of words
_SIGN_BIT = np.array(63)  # an array: numpy takes long to convert a number of Python

Words = npt.NDArray[np.int64]


def read_uint(data: bytes, position: int, field: str) -> int:
    """Return the uint256 at byte `position`.

    Raises:
        InvalidInput: the data ends before it.
    """
    if position + WORD_BYTES > len(data):
        raise _too_short(data, field)
    return int.from_bytes(data[position : position + WORD_BYTES], "big")


def read_head(data: bytes, fields: Sequence[str]) -> list[int]:
    """Return the words that the data begins with as uint256, one for each field.

    Raises:
        InvalidInput: the data ends before one of them.
    """
    if len(data) < WORD_BYTES * len(fields):
        raise _too_short(data, fields[len(data) // WORD_BYTES])
    return read_uints(data, 0, len(fields))


def read_uints(data: bytes, position: int, count: int) -> list[int]:
    """Return so many uint256, some few that the caller knows to be there."""
    return list(map(int.from_bytes, struct.unpack_from("32s" * count, data, position)))


def read_count(data: bytes, offset: int, field: str) -> int:
    """Return the length of the dynamic array whose length word is at `offset`.

    Raises:
        InvalidInput: the data ends before so many words.
    """
    count = read_uint(data, offset, field)
    if count * WORD_BYTES > len(data) - offset - WORD_BYTES:
        raise InvalidInput(f"{field}: the ABI length exceeds the data.")
    return count


def read_uint8(data: bytes, position: int, field: str) -> int:
    """Return the uint8 whose word is at byte `position`.

    Raises:
        InvalidInput: the data ends before it, or the word holds more than a uint8.
    """
    return require_uint8(read_uint(data, position, field), field)


def require_uint8(value: int, field: str) -> int:
    """Return a word's number; raises `InvalidInput` where it is more than a uint8."""
    if value > 0xFF:
        raise InvalidInput(f"{field}: the word is not an ABI uint8.")
    return value


def read_offset(data: bytes, position: int, head_words: int, field: str) -> int:
    """Return the offset of a dynamic field, read from its word in the head.

    Raises:
        InvalidInput: the data ends before the word, or the offset points into the head or outside.
    """
    return require_offset(read_uint(data, position, field), data, head_words, field)


def require_offset(offset: int, data: bytes, head_words: int, field: str) -> int:
    """Return an offset; raises `InvalidInput` where it points into the head or outside."""
    if not head_words * WORD_BYTES <= offset <= len(data) - WORD_BYTES:
        raise InvalidInput(f"{field}: the ABI offset points outside of the data.")
    return offset


def read_bytes(data: bytes, offset: int, field: str) -> bytes:
    """Return the dynamic `bytes` whose length word is at `offset`.

    Raises:
        InvalidInput: the data ends too early, or the padding is not zero.
    """
    length = read_uint(data, offset, field)
    start = offset + WORD_BYTES
    end = start + length
    padded_end = end + -length % WORD_BYTES
    if padded_end > len(data):
        raise InvalidInput(f"{field}: the ABI length exceeds the data.")
    if any(data[end:padded_end]):
        raise InvalidInput(f"{field}: the ABI padding is not zero.")
    return data[start:end]


def read_text(data: bytes, offset: int, field: str) -> str:
    """Return the dynamic `string` whose length word is at `offset`.

    Raises:
        InvalidInput: as `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(data, offset, field).decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{field}: the bytes are not UTF-8 text.") from None


def read_words(data: bytes, offset: int, field: str) -> Words:
    """Return the elements, shape `(4, n)`, of the dynamic array whose length word is at `offset`.

    Raises:
        InvalidInput: the data ends too early.
    """
    form = (4, read_count(data, offset, field))
    limbs = np.ndarray(form, _BIG_ENDIAN, data, offset + WORD_BYTES, _STRIDES)
    return limbs.astype(_NATIVE, "C")


def require_width(words: Words, bits: int, *, signed: bool, field: str) -> None:
    """Check that each word is a canonical (u)int of `bits` bits, which is 1 to 64, 128 or 256.

    Raises:
        InvalidInput: a word is zero- or sign-extended wrongly, that is, its value does not fit.
    """
    for start in range(0, words.shape[1], _BLOCK):
        if not _fits(words[:, start : start + _BLOCK], bits, signed=signed):
            kind = "int" if signed else "uint"
            raise InvalidInput(f"{field}: a value does not fit ABI type {kind}{bits}.")


def _fits(words: Words, bits: int, *, signed: bool) -> bool:
    upper = 3 if bits <= 64 else 4 - bits // 64
    # Each upper limb repeats the sign of the one below it, or it is 0.
    due = (words[1 : upper + 1] >> _SIGN_BIT).tobytes() if signed else bytes(words[:upper].nbytes)
    if words[:upper].tobytes() != due:
        return False
    return bits >= 64 or (words[3] >> (bits - signed)).tobytes() == words[2].tobytes()


def signed_words(values: npt.NDArray[np.int64]) -> Words:
    """Return int64 values of shape `(n,)` sign-extended to words, shape `(4, n)`."""
    words = np.empty((4, values.size), np.int64)
    words[:3] = values >> _SIGN_BIT
    words[3] = values
    return words


def uint_words(values: npt.NDArray[np.uint64]) -> Words:
    """Return values of 0 to 2**64 - 1, shape `(n,)`, as words, shape `(4, n)`."""
    words = np.zeros((4, values.size), np.int64)
    words[3] = values.view(np.int64)
    return words


def _too_short(data: bytes, field: str) -> InvalidInput:
    return InvalidInput(f"{field}: the ABI data is too short ({len(data)} bytes).")


def pack_uints(values: Iterable[int]) -> bytes:
    """Return numbers of 0 to 2**256 - 1 as 32 bytes each."""
    return b"".join([value.to_bytes(WORD_BYTES, "big") for value in values])


def pack(words: Words) -> bytes:
    """Return words of shape `(4, n)` as 32 * n bytes."""
    return words.T.astype(_BIG_ENDIAN, "C").tobytes()
