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
from ml.infernet.words import Words, pack, require_width

__all__ = ["floats_from_words", "words_from_floats", "words_from_integers"]

Floats = npt.NDArray[np.float64]
Limbs = npt.NDArray[np.uint64]

_LOW_32 = np.uint64(0xFFFF_FFFF)
# As arrays: with few values, numpy takes longer to convert a number of Python than to compute.
_LIMB, _PER_LIMB = np.array(2.0**64), np.array(2.0**-64)
_SIGN_BIT = np.array(63)
_MOST_INT64 = np.array(2.0**63 - 1024)  # the largest float64 that is an int64

_DEKKER = 134217729.0  # 2**27 + 1 splits a float64 into two halves whose products are exact

# The double-double quotient is wrong by less than 2**-100 of itself; where even an error of
# 2**-96 cannot change the rounding, it is the correctly rounded result (Ziv's test).
_QUOTIENT_ERROR = 2.0**-96

#: The powers of ten that are a float64.
_POWERS = [np.array(float(10**decimals)) for decimals in range(23)]

# Values at a time: the dozens of temporaries stay in the processor's cache.
_BLOCK = 4096


def words_from_floats(values: Floats, decimals: int) -> Words:
    """Return int128 words, shape `(4, n)`, of float64 values, shape `(n,)`.

    Raises:
        UnprocessableOutput: a value is NaN or infinite, or does not fit int128 when scaled.
    """
    factor = float(10**decimals)
    if not float(np.abs(values).max(initial=0.0)) * factor < 2.0**127:  # nor is NaN
        _require_fit(values, factor, decimals)
    scaled = np.trunc(values * factor) * _PER_LIMB  # exact from here on: powers of two
    high = np.floor(scaled).astype(np.int64)
    sign = high >> _SIGN_BIT
    low = (np.abs(scaled - np.trunc(scaled)) * _LIMB).astype(np.uint64)
    words = np.empty((4, low.size), np.int64)
    words[:2] = sign
    words[2] = high
    words[3] = (low.view(np.int64) ^ sign) - sign
    return words


def words_from_integers(values: npt.NDArray[np.int64 | np.uint64], decimals: int) -> Words:
    """Return int128 words, shape `(4, n)`, of integers, shape `(n,)`, scaled exactly.

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


def floats_from_words(words: Words, decimals: int, *, bits: int, field: str) -> Floats:
    """Return float64 values, shape `(n,)`, of words of signed integers, shape `(4, n)`.

    Raises:
        InvalidInput: a word does not fit `bits` bits, as in `require_width`.
    """
    count = words.shape[1]
    if count <= _BLOCK:
        return _floats_of_block(words, decimals, bits, field)
    floats = np.empty(count, np.float64)
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        floats[block] = _floats_of_block(words[:, block], decimals, bits, field)
    return floats


def _floats_of_block(words: Words, decimals: int, bits: int, field: str) -> Floats:
    exact = _exact_floats(words, decimals) if bits >= 128 else None
    if exact is not None:
        return exact
    require_width(words, bits, signed=True, field=field)
    return _rounded_floats(words, decimals)


def _exact_floats(words: Words, decimals: int) -> Floats | None:
    """Return words as floats if each is an int128 with a float64 of the same value, else None.

    So are those that were scaled in float64. Each limb is taken for signed, and what that changes
    is added to the one above: of an int128 the two uppermost are 0 then, and small negative
    numbers keep their digits.
    """
    if decimals >= len(_POWERS):
        return None
    digits = words.copy()
    np.subtract(digits[:3], digits[1:] >> _SIGN_BIT, digits[:3])
    parts = np.minimum(digits[2:].astype(np.float64), _MOST_INT64)
    if bytes(parts.nbytes) + parts.astype(np.int64).tobytes() != digits.tobytes():
        return None
    top, bottom = parts[0], parts[1]
    top *= _LIMB
    numbers: Floats = top + bottom
    if (numbers - top).tobytes() != bottom.tobytes():  # a sum is exact if it can be taken apart
        return None
    numbers /= _POWERS[decimals]
    return numbers


def _rounded_floats(words: Words, decimals: int) -> Floats:
    high, low = words[2:].view(np.uint64)
    sign = words[2] >> _SIGN_BIT
    negative = sign != 0
    wide = (words[0] != sign) | (words[1] != sign)
    quotient, certain = _divide(*_negate(high, low, negative), decimals)
    floats = np.where(negative, -quotient, quotient)
    for place in np.flatnonzero(wide | ~certain):
        exact = int.from_bytes(pack(words[:, place]), "big", signed=True)
        floats[place] = exact / 10**decimals
    return floats


def _require_fit(values: Floats, factor: float, decimals: int) -> None:
    if not np.isfinite(values).all():
        raise UnprocessableOutput("NaN and infinity have no fixed-point form; use IEEE arithmetic.")
    with np.errstate(over="ignore"):
        scaled = values * factor
    if ((scaled < -(2.0**127)) | (scaled >= 2.0**127)).any():
        raise _overflow(decimals)


def _overflow(decimals: int) -> UnprocessableOutput:
    return UnprocessableOutput(
        f"A value does not fit int128 fixed point with {decimals} decimals; "
        "ask for fewer decimals or use IEEE arithmetic."
    )


def _negate(high: Limbs, low: Limbs, where: npt.NDArray[np.bool_]) -> tuple[Limbs, Limbs]:
    """Negate two's complement 128-bit numbers where told to."""
    return np.where(where, ~high + (low == 0), high), np.where(where, -low, low)


def _int128_words(high: Limbs, low: Limbs, negative: npt.NDArray[np.bool_]) -> Words:
    words = np.empty((4, low.size), np.int64)
    words[2], words[3] = (limbs.view(np.int64) for limbs in _negate(high, low, negative))
    words[:2] = words[2] >> _SIGN_BIT
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
