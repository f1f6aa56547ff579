"""What OpenVINO GenAI's own grammars hold of JSON Schemas; other keywords it silently ignores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from ml.generation.json_grammar import UnknownToGrammar

__all__ = ["require_held"]

_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
#: By type, the keywords that are held beside each other.
_TOGETHER: dict[str, tuple[frozenset[str], ...]] = {
    "object": (frozenset({"properties", "required", "additionalProperties"}),),
    "array": (frozenset({"items", "prefixItems", "minItems", "maxItems"}),),
    "string": (
        frozenset({"pattern"}),
        frozenset({"format"}),
        frozenset({"minLength", "maxLength"}),
    ),
    "integer": (_NUMBERS,),
    "number": (_NUMBERS,),
    "boolean": (frozenset(),),
    "null": (frozenset(),),
}
#: Held where nothing stands beside them.
_ALONE = ("$ref", "const", "enum", "anyOf", "oneOf")
_NEVER = frozenset(
    {"allOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies",
     "contains", "minContains", "maxContains", "uniqueItems", "additionalItems", "multipleOf",
     "unevaluatedItems", "patternProperties", "unevaluatedProperties", "propertyNames",
     "minProperties", "maxProperties"}
)  # fmt: skip
#: The keywords that say what a value has to be; all others only tell of it.
_KEYWORDS = _NEVER.union(_ALONE, *(names for kinds in _TOGETHER.values() for names in kinds))


def require_held(schema: str) -> None:
    """Raise `UnknownToGrammar` for a schema that says what the library would not hold."""
    try:
        _require(json.loads(schema))
    except (AttributeError, TypeError, ValueError) as error:
        raise UnknownToGrammar(f"it is no JSON Schema that is held: {error}") from error


def _require(schema: Any) -> None:
    if isinstance(schema, bool):
        return
    said = {name for name in schema if name in _KEYWORDS}
    kind = schema.get("type")
    if alone := said.intersection(_ALONE):
        if len(said) > 1 or kind is not None:
            raise _not_held(alone)
        if not str(schema.get("$ref", "#")).startswith("#"):
            raise UnknownToGrammar("$ref: only parts of the schema itself are read")
    elif said:
        kinds = [kind] if isinstance(kind, str) else kind or [_kind_of(said)]
        if not all(_holds(one, said) for one in kinds):
            raise _not_held(said)
        _require_satisfiable(schema)
    for part in _parts(schema):
        _require(part)


def _kind_of(said: set[str]) -> str:
    """Return the type that a schema without one is taken for."""
    return next((kind for kind in ("object", "array") if _holds(kind, said)), "")


def _holds(kind: Any, said: set[str]) -> bool:
    return any(said <= together for together in _TOGETHER.get(kind, ()))


def _require_satisfiable(schema: dict[str, Any]) -> None:
    least, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    most, below = schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf)
    if least > most or above >= min(most, below) or least >= below:
        raise UnknownToGrammar("no number is within these bounds")


def _parts(schema: dict[str, Any]) -> Iterable[Any]:
    """Return the schemas in a schema."""
    parts = [schema[name] for name in ("items", "additionalProperties") if name in schema]
    for name in ("anyOf", "oneOf", "prefixItems"):
        parts += schema.get(name, [])
    for name in ("properties", "$defs", "definitions"):
        parts += schema.get(name, {}).values()
    return parts


def _not_held(names: Iterable[str]) -> UnknownToGrammar:
    told = ", ".join(sorted(names))
    return UnknownToGrammar(f"engine openvino cannot hold {told} here; engine transformers can")
