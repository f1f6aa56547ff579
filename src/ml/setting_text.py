"""How settings are written where all is text: JSON, and lists."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["parse_json", "split_list"]


def parse_json(value: Any) -> Any:
    """Return what a JSON text holds; all else as it is. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None


def split_list(value: Any) -> Any:
    """Return the parts of a text, split at commas or read as a JSON list; all else as it is."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return parse_json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
