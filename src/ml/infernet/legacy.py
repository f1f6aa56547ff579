"""One row of numbers as `abi.encode(int256[])` in SD59x18: signed, scaled by 10**18.

The input of the first torch services, before tensors had a form of their own.
Format: Solidity ABI specification; SD59x18 as in PRBMath.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ml.errors import InvalidInput, UnprocessableOutput
from ml.infernet.fixed_point import floats_from_words
from ml.infernet.words import WORD_BYTES, pack_uints, read_offset, read_words

__all__ = ["LEGACY_DECIMALS", "decode_legacy", "encode_legacy", "is_legacy"]

#: the decimal places of SD59x18
LEGACY_DECIMALS = 18

# One dynamic argument: its offset is 32. A tensor request's head has 2 to 4 words: 64, 96 or 128.
_START = WORD_BYTES.to_bytes(WORD_BYTES, "big")


def is_legacy(data: bytes) -> bool:
    """Tell a legacy `int256[]` from a tensor request, by the first word alone."""
    return data.startswith(_START)


def encode_legacy(values: npt.ArrayLike) -> bytes:
    """Return numbers, flattened in C order, as `int256[]`: each the integer nearest to it.

    Raises:
        UnprocessableOutput: they are no real numbers, NaN, infinite, or beyond int256 when scaled.
    """
    try:
        row = np.asarray(values).astype(np.float64, casting="same_kind").reshape(-1)
    except (TypeError, ValueError):
        raise UnprocessableOutput("The values are not real numbers.") from None
    try:
        words = b"".join(_sd59x18(value) for value in row.tolist())
    except (OverflowError, ValueError):
        raise UnprocessableOutput("A value is NaN, infinite or does not fit SD59x18.") from None
    return pack_uints([WORD_BYTES, row.size]) + words


def decode_legacy(data: bytes) -> npt.NDArray[np.float64]:
    """Return the numbers, shape `(n,)`: each the float64 nearest to the exact decimal.

    Raises:
        InvalidInput: the data is no such encoding.
    """
    if not is_legacy(data):
        raise InvalidInput("The ABI data is not int256[].")
    words = read_words(data, read_offset(data, 0, 1, "values"), "values")
    return floats_from_words(words, LEGACY_DECIMALS, bits=256, field="values")


def _sd59x18(value: float) -> bytes:
    # In exact integers, so that decoding gives the float back; rows are short, so no vectorising.
    numerator, denominator = value.as_integer_ratio()
    scaled: int = (2 * numerator * 10**LEGACY_DECIMALS + denominator) // (2 * denominator)
    return scaled.to_bytes(WORD_BYTES, "big", signed=True)
