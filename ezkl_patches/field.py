"""Numbers as elements of BN254's scalar field, which is what a circuit of ezkl computes with.

A number x becomes the integer round(x * 2**scale), half away from zero; a negative integer -n
stands as the element `FIELD_ORDER - n`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

__all__ = ["FIELD_ORDER", "dequantize", "quantize", "require_canonical", "signed", "unsigned"]

#: The order of BN254's scalar field, as EIP-196 gives it.
FIELD_ORDER = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001


def quantize(value: float | Fraction, scale: int) -> int:
    """Return round(value * 2**scale), half away from zero, exactly.

    `value` is the number as the circuit's input type holds it: round to float32 first where the
    model takes float32. Raises `ValueError` for NaN and infinities.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    scaled = Fraction(value) * Fraction(2) ** scale
    rounded = math.floor(abs(scaled) + Fraction(1, 2))
    return rounded if scaled >= 0 else -rounded


def dequantize(element: int, scale: int) -> float:
    """Return the number that a field element stands for at a scale."""
    return float(Fraction(signed(element)) / Fraction(2) ** scale)


def signed(element: int) -> int:
    """Return the integer of an element: those over half the order are negative."""
    return element - FIELD_ORDER if element > FIELD_ORDER // 2 else element


def unsigned(integer: int) -> int:
    """Return the element of an integer. Raises `ValueError` for one that the field cannot hold."""
    if abs(integer) > FIELD_ORDER // 2:
        raise ValueError("the integer does not fit BN254's scalar field")
    return integer % FIELD_ORDER


def require_canonical(instances: Iterable[int]) -> None:
    """Raise `ValueError` for an instance outside of 0 <= x < `FIELD_ORDER`; verifiers refuse it."""
    for position, instance in enumerate(instances):
        if not 0 <= instance < FIELD_ORDER:
            raise ValueError(f"instance {position} is not a canonical field element of BN254")
