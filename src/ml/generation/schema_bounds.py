"""JSON Schemas and patterns of strangers, with bounds on what an engine has to compile."""

from __future__ import annotations

import json
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

from ml.generation.schema_shape import require_shape
from ml.json_text import read_json

__all__ = ["BoundedSchema", "Regex", "SchemaOrText", "compact"]

_MOST_CHARACTERS = 32 * 1024
_MOST_LEVELS = 32


def compact(value: Any) -> str:
    """Return JSON without spaces. Raises `ValueError` for NaN and infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if _levels(schema) > _MOST_LEVELS:
        raise ValueError(f"a schema may have {_MOST_LEVELS} levels")
    if len(compact(schema)) > _MOST_CHARACTERS:
        raise ValueError(f"a schema may have {_MOST_CHARACTERS} characters")
    try:
        orjson.dumps(schema)
    except TypeError:
        raise ValueError("a schema's numbers may have 64 bits") from None
    require_shape(schema)
    return schema


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return read_json(value)
    except ValueError:
        raise ValueError("give a JSON Schema") from None


def _levels(value: Any) -> int:
    """Return how deeply a value is nested; a reader of JSON bounds that already."""
    match value:
        case dict():
            return 1 + max(map(_levels, value.values()), default=0)
        case list():
            return 1 + max(map(_levels, value), default=0)
    return 0


#: A JSON Schema that is small enough; whether answers can be held to it, the engine says.
BoundedSchema = Annotated[dict[str, Any], AfterValidator(_bounded)]
#: The same, which may be given as its text.
SchemaOrText = Annotated[BoundedSchema, BeforeValidator(_read)]
Regex = Annotated[str, Field(min_length=1, max_length=4096)]
