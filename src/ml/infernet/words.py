"""The 32-byte words that Solidity ABI data is made of, many at a time.

Format: Solidity ABI specification, "Formal Specification of the Encoding". A word is held as four
unsigned 64-bit limbs, most significant first, so `n` words are an `(n, 4)` uint64 array.

Reading is strict, as in eth_abi: padding must be canonical, offsets must lie behind the head.
Every reader checks lengths against the data before it allocates, and raises only InvalidInput.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ml.errors import InvalidInput

__all__ = [
    "WORD_BYTES",
    "Words",
    "pack",
    "read_bytes",
    "read_offset",
    "read_text",
    "read_uint",
    "read_uint8",
    "read_words",
    "require_width",
    "signed_words",
    "uint_words",
]

WORD_BYTES = 32

Words = npt.NDArray[np.uint64]


def read_uint(data: bytes, position: int, field: str) -> int:
    """Return the uint256 at byte `position`.

    Raises:
        InvalidInput: the data ends before it.
    """
    if position + WORD_BYTES > len(data):
        raise InvalidInput(f"{field}: the ABI data is too short ({len(data)} bytes).")
    return int.from_bytes(data[position : position + WORD_BYTES], "big")


def read_uint8(data: bytes, position: int, field: str) -> int:
    """Return the uint8 whose word is at byte `position`.

    Raises:
        InvalidInput: the data ends before it, or the word holds more than a uint8.
    """
    value = read_uint(data, position, field)
    if value > 0xFF:
        raise InvalidInput(f"{field}: the word is not an ABI uint8.")
    return value


def read_offset(data: bytes, position: int, head_words: int, field: str) -> int:
    """Return the offset of a dynamic field, read from its word in the head.

    Raises:
        InvalidInput: the data ends before the word, or the offset points into the head or outside.
    """
    offset = read_uint(data, position, field)
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
    """Return the elements, shape `(n, 4)`, of the dynamic array whose length word is at `offset`.

    Raises:
        InvalidInput: the data ends too early.
    """
    count = read_uint(data, offset, field)
    start = offset + WORD_BYTES
    if count * WORD_BYTES > len(data) - start:
        raise InvalidInput(f"{field}: the ABI length exceeds the data.")
    limbs = np.frombuffer(data, dtype=">u8", count=count * 4, offset=start)
    return limbs.reshape(count, 4).astype(np.uint64)


def require_width(words: Words, bits: int, *, signed: bool, field: str) -> None:
    """Check that each word is a canonical (u)int of `bits` bits, which is 1 to 64, 128 or 256.

    Raises:
        InvalidInput: a word is zero- or sign-extended wrongly, that is, its value does not fit.
    """
    upper_limbs = 3 if bits <= 64 else 4 - bits // 64
    lead = words[:, upper_limbs].view(np.int64)
    extension = (lead >> 63).tobytes() if signed else bytes(8 * len(words))
    fits = all(words[:, limb].tobytes() == extension for limb in range(upper_limbs))
    if bits < 64:
        fits = fits and (lead >> (bits - signed)).tobytes() == extension
    if not fits:
        kind = "int" if signed else "uint"
        raise InvalidInput(f"{field}: a value does not fit ABI type {kind}{bits}.")


def signed_words(values: npt.NDArray[np.int64]) -> Words:
    """Return int64 values of shape `(n,)` sign-extended to words, shape `(n, 4)`."""
    words = np.empty((values.size, 4), np.uint64)
    words[:, :3] = (values >> 63).view(np.uint64)[:, None]
    words[:, 3] = values.view(np.uint64)
    return words


def uint_words(values: Sequence[int] | npt.NDArray[np.uint64]) -> Words:
    """Return values of 0 to 2**64 - 1, shape `(n,)`, as words, shape `(n, 4)`."""
    words = np.zeros((len(values), 4), np.uint64)
    words[:, 3] = values
    return words


def pack(words: Words) -> bytes:
    """Return words of shape `(n, 4)` as 32 * n bytes."""
    return words.astype(">u8").tobytes()
