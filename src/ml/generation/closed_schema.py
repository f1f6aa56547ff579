"""JSON Schemas whose objects have no properties but those that are named.

A schema that does not speak of other properties allows any; a small model would go on writing them
until it is cut off. Answers that have none fit the schema as well.
"""

from __future__ import annotations

from typing import Any

__all__ = ["closed"]

#: Keywords with schemas by name, with one schema, and with a list of schemas.
_BY_NAME = frozenset({"$defs", "definitions", "dependentSchemas", "properties"})
_ONE = frozenset({"additionalProperties", "contains", "items", "propertyNames"})
_SEVERAL = frozenset({"anyOf", "items", "oneOf", "prefixItems"})
#: What speaks of other properties, here or elsewhere.
_OPEN = frozenset(
    {
        "$ref",
        "additionalProperties",
        "anyOf",
        "dependentSchemas",
        "if",
        "not",
        "oneOf",
        "patternProperties",
        "unevaluatedProperties",
    }
)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that accepts less, whose objects have only the properties that it names.

    Parts that hold for one object together, as under `allOf`, stay as they are: closed ones would
    leave nothing that all of them accept.
    """
    return schema if _has_all_of(schema) else _closed(schema)


def _has_all_of(value: Any) -> bool:
    match value:
        case dict():
            return "allOf" in value or any(map(_has_all_of, value.values()))
        case list():
            return any(map(_has_all_of, value))
    return False


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    shares = "properties" in schema and not _OPEN.isdisjoint(schema)
    found = {
        keyword: value if shares and keyword in _SEVERAL else _closed_under(keyword, value)
        for keyword, value in schema.items()
    }
    if "properties" in schema and not shares:
        found["additionalProperties"] = False
    return found


def _closed_under(keyword: str, value: Any) -> Any:
    if keyword in _BY_NAME and isinstance(value, dict):
        return {name: _closed(inner) for name, inner in value.items()}
    if keyword in _SEVERAL and isinstance(value, list):
        return [_closed(inner) for inner in value]
    return _closed(value) if keyword in _ONE else value
