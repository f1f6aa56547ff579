"""Fixed-point numbers in ABI words: signed integers scaled by `10**decimals`.

Two roundings are in use, and both are kept bit for bit:

- floats to int128 as infernet-ml 2.0.0 (`RitualVector`) does: the float64 product
  `value * 10**decimals`, truncated towards zero;
- integers back to float64 with one correct rounding of the exact quotient, as Python's `int / int`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ml.errors import UnprocessableOutput
from ml.infernet.words import Words

__all__ = ["floats_from_words", "words_from_floats", "words_from_integers"]

Floats = npt.NDArray[np.float64]
Limbs = npt.NDArray[np.uint64]

_LOW_32 = np.uint64(0xFFFF_FFFF)
_DEKKER = 134217729.0  # 2**27 + 1 splits a float64 into two halves whose products are exact

# The double-double quotient is wrong by less than 2**-100 of itself; where even an error of
# 2**-96 cannot change the rounding, it is the correctly rounded result (Ziv's test).
_QUOTIENT_ERROR = 2.0**-96

#: 10**22 is the largest power of ten that is a float64.
_EXACT_DECIMALS = 22

# Rows at a time: the dozens of temporaries stay in the processor's cache.
_BLOCK = 4096


def words_from_floats(values: Floats, decimals: int) -> Words:
    """Return int128 words, shape `(n, 4)`, of float64 values, shape `(n,)`.

    Raises:
        UnprocessableOutput: a value is NaN or infinite, or does not fit int128 when scaled.
    """
    with np.errstate(over="ignore"):
        scaled = values * float(10**decimals)
    magnitude = np.abs(np.trunc(scaled))
    if not magnitude.max(initial=0.0) < 2.0**127:  # nor is NaN
        if not np.isfinite(values).all():
            raise UnprocessableOutput(
                "NaN and infinity have no fixed-point form; use IEEE arithmetic."
            )
        if ((scaled < -(2.0**127)) | (scaled >= 2.0**127)).any():
            raise _overflow(decimals)
    high = np.floor(magnitude * 2.0**-64)
    low = magnitude - high * 2.0**64  # exact: both terms are multiples of the same power of two
    return _int128_words(high.astype(np.uint64), low.astype(np.uint64), scaled < 0)


def words_from_integers(values: npt.NDArray[np.int64 | np.uint64], decimals: int) -> Words:
    """Return int128 words, shape `(n, 4)`, of integers, shape `(n,)`, scaled exactly.

    Raises:
        UnprocessableOutput: a value does not fit int128 when scaled.
    """
    factor = 10**decimals
    smallest, largest = int(values.min(initial=0)), int(values.max(initial=0))
    if smallest * factor < -(2**127) or largest * factor >= 2**127:
        raise _overflow(decimals)
    negative = values < 0
    limbs = values.astype(np.uint64)  # two's complement, so that negation gives the magnitude
    high, low = _multiply(np.where(negative, -limbs, limbs), factor)
    return _int128_words(high, low, negative)


def floats_from_words(words: Words, decimals: int) -> Floats:
    """Return float64 values, shape `(n,)`, of int256 words, shape `(n, 4)`; never fails."""
    if decimals <= _EXACT_DECIMALS and (numbers := _exact_floats(words)) is not None:
        return numbers / float(10**decimals)
    floats = np.empty(len(words), np.float64)
    for start in range(0, len(words), _BLOCK):
        block = slice(start, start + _BLOCK)
        floats[block] = _floats_of_block(words[block], decimals)
    return floats


def _exact_floats(words: Words) -> Floats | None:
    """Return int256 words as float64 values if all of them have such a value, else None.

    So do those that were scaled in float64. Sums of a multiple of some power of two and a smaller
    number are exact if taking the first away again leaves the second.
    """
    high, low = words[:, 2].view(np.int64), words[:, 3].view(np.int64)
    sign = (high >> 63).tobytes()
    wide = words[:, 0].tobytes() != sign or words[:, 1].tobytes() != sign
    if wide or (high >> 53).tobytes() != sign:
        return None
    # With a low limb from -2**63 on, small negative numbers keep their digits.
    top = (high - (low >> 63)).astype(np.float64) * 2.0**64
    middle = (low >> 32).astype(np.float64) * 2.0**32
    bottom = (low & 0xFFFF_FFFF).astype(np.float64)
    limb = middle + bottom
    numbers = top + limb
    is_exact = _same(limb - middle, bottom) and _same(numbers - top, limb)
    return numbers if is_exact else None


def _same(one: Floats, other: Floats) -> bool:
    """Return whether all bits are the same: for a few values, quicker than to compare them."""
    return one.tobytes() == other.tobytes()


def _floats_of_block(words: Words, decimals: int) -> Floats:
    high, low = words[:, 2], words[:, 3]
    sign = (high.view(np.int64) >> 63).view(np.uint64)
    negative = sign != 0
    wide = (words[:, 0] != sign) | (words[:, 1] != sign)
    quotient, certain = _divide(*_negate(high, low, negative), decimals)
    floats = np.where(negative, -quotient, quotient)
    for row in np.flatnonzero(wide | ~certain):
        exact = int.from_bytes(words[row].astype(">u8").tobytes(), "big", signed=True)
        floats[row] = exact / 10**decimals
    return floats


def _overflow(decimals: int) -> UnprocessableOutput:
    return UnprocessableOutput(
        f"A value does not fit int128 fixed point with {decimals} decimals; "
        "ask for fewer decimals or use IEEE arithmetic."
    )


def _negate(high: Limbs, low: Limbs, where: npt.NDArray[np.bool_]) -> tuple[Limbs, Limbs]:
    """Negate two's complement 128-bit numbers where told to."""
    return np.where(where, ~high + (low == 0), high), np.where(where, -low, low)


def _int128_words(high: Limbs, low: Limbs, negative: npt.NDArray[np.bool_]) -> Words:
    words = np.empty((low.size, 4), np.uint64)
    words[:, 2], words[:, 3] = _negate(high, low, negative)
    words[:, :2] = (words[:, 2].view(np.int64) >> 63).view(np.uint64)[:, None]
    return words


def _multiply(values: Limbs, factor: int) -> tuple[Limbs, Limbs]:
    """Return the high and low limb of `values * factor`, which the caller knows to be < 2**128."""
    factor_0, factor_1 = np.uint64(factor & 0xFFFF_FFFF), np.uint64(factor >> 32 & 0xFFFF_FFFF)
    value_0, value_1 = values & _LOW_32, values >> 32
    low, cross_0 = value_0 * factor_0, value_0 * factor_1
    cross_1, high = value_1 * factor_0, value_1 * factor_1
    middle = (low >> 32) + (cross_0 & _LOW_32) + (cross_1 & _LOW_32)
    carried = high + (cross_0 >> 32) + (cross_1 >> 32) + (middle >> 32)
    upper = values * np.uint64(factor >> 64 & 0xFFFF_FFFF_FFFF_FFFF)
    return carried + upper, (middle << 32) | (low & _LOW_32)


def _divide(high: Limbs, low: Limbs, decimals: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return `(high * 2**64 + low) / 10**decimals`, and where it is surely rounded correctly."""
    divisor = float(10**decimals)
    divisor_rest = float(10**decimals - int(divisor))
    number, number_rest = _double_double(high, low)
    quotient = number / divisor
    if divisor_rest == 0 and not number_rest.any():  # usual for what was scaled in float64
        return quotient, np.ones(quotient.shape, np.bool_)
    product, product_rest = _two_product(quotient, divisor)
    remainder = (number - product) - product_rest + number_rest - quotient * divisor_rest
    correction = remainder / divisor
    error = quotient * _QUOTIENT_ERROR
    lower = quotient + (correction - error)
    return lower, lower == quotient + (correction + error)


def _double_double(high: Limbs, low: Limbs) -> tuple[Floats, Floats]:
    """Return 128-bit numbers as unevaluated sums of two float64, good to 106 bits."""
    top = (high & ~np.uint64(0x7FF)).astype(np.float64) * 2.0**64
    middle = (((high & np.uint64(0x7FF)) << 42) | (low >> 22)).astype(np.float64) * 2.0**22
    bottom = (low & np.uint64(0x3F_FFFF)).astype(np.float64)
    total, rest = _two_sum(top, middle)
    return _two_sum(total, rest + bottom)


def _two_sum(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum and its exact error (Knuth)."""
    total = left + right
    shadow = total - left
    return total, (left - (total - shadow)) + (right - shadow)


def _two_product(left: Floats, right: float) -> tuple[Floats, Floats]:
    """Return the rounded product and its exact error (Dekker)."""
    product = left * right
    left_high = left * _DEKKER - (left * _DEKKER - left)
    right_high = right * _DEKKER - (right * _DEKKER - right)
    left_low, right_low = left - left_high, right - right_high
    error = left_high * right_high - product + left_high * right_low + left_low * right_high
    return product, error + left_low * right_low
