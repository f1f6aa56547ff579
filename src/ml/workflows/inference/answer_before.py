"""What the container before in a chain answered, out of an answer that holds more than that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

__all__ = ["ANSWERS", "answer_before"]

T = TypeVar("T")

#: The keys under which services put what their models answered.
ANSWERS = ("outputs", "output")


def answer_before(data: Mapping[str, object], kind: type[T]) -> T | None:
    """Return the answer in an object, None where there is none of this kind."""
    answers = (data.get(name) for name in ANSWERS)
    return next((answer for answer in answers if isinstance(answer, kind)), None)
