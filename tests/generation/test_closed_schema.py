"""Schemas are closed where that takes nothing that they ask for."""

from __future__ import annotations

from typing import Any

import pytest

from ml.generation.closed_schema import closed

A = {"properties": {"a": {"type": "string"}}}
CLOSED = {**A, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (A, CLOSED),
        ({"properties": {}}, {"properties": {}, "additionalProperties": False}),
        ({"type": "object"}, {"type": "object"}),
        (True, True),
        ({"items": A}, {"items": CLOSED}),
        ({"prefixItems": [A, True]}, {"prefixItems": [CLOSED, True]}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"$defs": {"a": A}, "$ref": "#/$defs/a"}, {"$defs": {"a": CLOSED}, "$ref": "#/$defs/a"}),
        ({"additionalProperties": A}, {"additionalProperties": CLOSED}),
        (
            {"properties": {"properties": A}},
            {"properties": {"properties": CLOSED}, "additionalProperties": False},
        ),
    ],
)
def test_objects_get_no_property_that_is_not_named(schema: Any, expected: Any) -> None:
    assert closed(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "string"}},
        {**A, "patternProperties": {"x": {}}},
        {**A, "unevaluatedProperties": False},
        {**A, "anyOf": [A, A]},
        {**A, "$ref": "#"},
        {"allOf": [A, A]},
        {"items": {"allOf": [A, {"$ref": "#/$defs/a"}]}, "$defs": {"a": A}},
        {"enum": [A], "const": A, "default": A, "examples": [A]},
    ],
)
def test_a_schema_that_speaks_of_others_and_data_stay_as_they_are(schema: Any) -> None:
    assert closed(schema) == schema
