"""How settings are written where all is text: JSON, and lists."""

from __future__ import annotations

from typing import Any

from ml.json_text import read_json

__all__ = ["parse_json", "split_list"]


def parse_json(value: Any) -> Any:
    """Return what a JSON text holds; all else as it is. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    try:
        return read_json(value)
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None


def split_list(value: Any) -> Any:
    """Return the parts of a text, split at commas or read as a JSON list; all else as it is."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return parse_json(value)
    return [part.strip() for part in value.split(",") if part.strip()]
