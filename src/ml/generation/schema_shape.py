"""What the keywords of a JSON Schema have to hold, told in words that say what to change.

Engines tell of a fault in their libraries' words, and overlook some.
Source: JSON Schema, draft 2020-12, "Applying subschemas" and "Validation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["patterns_in", "require_shape"]

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
#: Keywords with schemas by name, with one schema, and with a list of schemas.
_BY_NAME = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
_ONE = frozenset(
    {"additionalItems", "additionalProperties", "contains", "else", "if", "items", "not",
     "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)  # fmt: skip
_SEVERAL = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_type(value: Any) -> bool:
    return value in _TYPES or (_are_texts(value) and bool(value) and set(value) <= set(_TYPES))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _are_named_schemas(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


#: What a keyword has to hold, and how that is said.
_Rule = tuple[Callable[[Any], bool], str]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_BY_NAME, (_are_named_schemas, "give an object with a schema for each name")),
    **dict.fromkeys(_ONE, (_is_schema, "give a schema: an object, true or false")),
    **dict.fromkeys(_SEVERAL, (_are_schemas, "give a list with at least one schema")),
    "items": (
        lambda value: _is_schema(value) or _are_schemas(value),
        "give a schema: an object, true or false",
    ),
    **dict.fromkeys(
        ("maxContains", "maxItems", "maxLength", "maxProperties",
         "minContains", "minItems", "minLength", "minProperties"),
        (_is_count, "give a whole number, 0 or above"),
    ),
    **dict.fromkeys(
        ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"),
        (_is_number, "give a number"),
    ),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "give a number above 0"),
    **dict.fromkeys(("$ref", "format", "pattern"), (_is_text, "give a text")),
    "required": (_are_texts, "give a list of names of properties"),
    "enum": (
        lambda value: isinstance(value, list) and bool(value),
        "give a list with at least one value",
    ),
    "type": (_is_type, f"give one of {', '.join(_TYPES)}, or a list of them"),
    "uniqueItems": (lambda value: isinstance(value, bool), "give true or false"),
}  # fmt: skip
#: The first of which is not above the second.
_BOUNDS = (
    ("minContains", "maxContains"),
    ("minItems", "maxItems"),
    ("minLength", "maxLength"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
)


def require_shape(schema: dict[str, Any]) -> None:
    """Raise `ValueError` for a keyword that does not hold what it has to, with its place."""
    for place, part in _schemas_in(schema):
        for name, value in part.items():
            holds, due = _RULES.get(name, (_is_anything, ""))
            if not holds(value):
                raise ValueError(f"{'.'.join((*place, name))}: {due}")
        for least, most in _BOUNDS:
            if least in part and most in part and part[least] > part[most]:
                raise ValueError(f"{'.'.join((*place, least))}: give no more than {most}")


def patterns_in(schema: Any) -> Iterator[str]:
    """Yield the regular expressions in a schema."""
    for _, part in _schemas_in(schema):
        if isinstance(pattern := part.get("pattern"), str):
            yield pattern
        if isinstance(by_pattern := part.get("patternProperties"), dict):
            yield from by_pattern


def _is_anything(value: Any) -> bool:
    return True


def _schemas_in(
    schema: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield a schema and those in it, each with where it stands."""
    if not isinstance(schema, dict):
        return
    yield place, schema
    for name, value in schema.items():
        parts: list[tuple[tuple[str, ...], Any]] = []
        if name in _BY_NAME and isinstance(value, dict):
            parts = [((name, key), part) for key, part in value.items()]
        elif name in _SEVERAL and isinstance(value, list):
            parts = [((name, str(number)), part) for number, part in enumerate(value)]
        elif name in _ONE:
            parts = [((name,), value)]
        for inner, part in parts:
            yield from _schemas_in(part, (*place, *inner))
