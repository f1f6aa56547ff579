"""Which schemas are left to OpenVINO's own grammars, and which are refused."""

from __future__ import annotations

import json

import pytest

from ml.generation.held_schemas import require_held
from ml.generation.json_grammar import UnknownToGrammar


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"foo": "unknown"},
        {"type": "string", "format": "email", "title": "A"},
        {"type": "string", "pattern": "a+"},
        {"type": "string", "minLength": 2, "maxLength": 3},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        {"type": ["integer", "null"]},
        {"type": "array", "prefixItems": [{"type": "null"}], "minItems": 1},
        {"properties": {"a": {"enum": [1]}}, "required": ["a"]},
        {"anyOf": [{"$ref": "#/$defs/a"}, {"const": 5}], "$defs": {"a": {"type": "null"}}},
    ],
    ids=json.dumps,
)
def test_what_the_library_holds_is_left_to_it(schema: object) -> None:
    require_held(json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        5,
        [],
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"not": {"type": "string"}},
        {"if": {}, "then": {}},
        {"type": "array", "uniqueItems": True},
        {"type": "array", "contains": {"const": 2}},
        {"type": "integer", "multipleOf": 7},
        {"type": "object", "dependentRequired": {"a": ["b"]}},
        {"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}},
        {"type": "string", "pattern": "a", "minLength": 3},
        {"type": "string", "enum": [1, 2]},
        {"enum": ["a"], "minLength": 3},
        {"anyOf": [{}], "required": ["b"]},
        {"$ref": "#/$defs/a", "maxLength": 2, "$defs": {"a": {"type": "string"}}},
        {"$ref": "file:///etc/passwd"},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"properties": []},
        {"type": "integer", "minimum": "a"},
        {"minimum": 5},
    ],
    ids=json.dumps,
)
def test_what_it_would_ignore_is_refused(schema: object) -> None:
    with pytest.raises(UnknownToGrammar):
        require_held(json.dumps(schema))
