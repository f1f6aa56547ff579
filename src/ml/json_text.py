"""JSON texts of strangers, and of operators, read in one way."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

__all__ = ["JsonObject", "read_json"]

#: An object of a JSON document, read or to be written; what it holds is looked at where it is used.
JsonObject = dict[str, object]


def read_json(text: bytes | str) -> Any:
    """Return what a JSON text holds.

    Raises `ValueError` for what is none, also for NaN, infinity, half of a character, and more than
    200 levels, which other readers take.
    """
    return from_json(text, allow_inf_nan=False)
