"""Which schemas become grammars of our own."""

from __future__ import annotations

import json

import pytest

from ml.generation.json_grammar import UnknownToGrammar, json_grammar


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({}, "root ::= value"),
        (True, "root ::= value"),
        ({"title": "A", "type": "number"}, "root ::= number"),
        ({"const": 'a"b\\'}, r'root ::= "\"a\\\"b\\\\\""'),
        ({"enum": ["é", 1, None]}, r'r0 ::= "\"é\"" | "1" | "null"'),
        ({"type": ["integer", "null"]}, "r0 ::= integer | null"),
        ({"type": "integer", "minimum": 2, "maximum": 4}, 'r0 ::= "2" | "3" | "4"'),
        ({"type": "string", "minLength": 1}, r'r0 ::= "\"" character{1} character* "\""'),
        ({"type": "array", "minItems": 2, "items": {"type": "null"}}, "null r0{1} r0* space"),
        ({"type": "object", "additionalProperties": False}, 'r0 ::= "{" space "}"'),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "r0 ::= r0"),
    ],
    ids=str,
)
def test_a_schema_is_a_rule(schema: object, rule: str) -> None:
    assert rule in json_grammar(json.dumps(schema))


def test_properties_that_need_not_be_there_may_be_left_out() -> None:
    schema = {"properties": {"a": {"type": "null"}, "b": True}, "required": ["b"]}
    grammar = json_grammar(json.dumps(schema | {"type": "object"}))
    assert r'r2 ::= ("\"a\"" colon null r1 | r0)' in grammar
    assert r'r0 ::= "\"b\"" colon value space' in grammar


@pytest.mark.parametrize(
    "schema",
    [
        "nope",
        "5",
        '{"type": 5}',
        '{"type": "frob"}',
        '{"foo": 1}',
        '{"type": "object", "patternProperties": {}}',
        '{"type": "string", "pattern": "a"}',
        '{"type": "string", "maxLength": 1000000000}',
        '{"type": "integer", "minimum": 5, "maximum": 3}',
        '{"type": "array", "minItems": 3, "maxItems": 2}',
        '{"enum": []}',
        '{"enum": ["\\ud800"]}',
        '{"$ref": "#/$defs/nothing"}',
        '{"$ref": "elsewhere.json"}',
        '{"allOf": [{}, {}]}',
        '{"properties": [], "type": "object"}',
    ],
)
def test_what_is_not_known_is_left_to_the_library(schema: str) -> None:
    with pytest.raises(UnknownToGrammar):
        json_grammar(schema)
