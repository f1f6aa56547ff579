"""JSON Schemas as grammars in which space between values is bounded.

OpenVINO GenAI makes grammars of schemas itself, with any amount of space: small models fill their
answers with empty lines there. What this module does not know is left to the library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["UnknownToGrammar", "json_grammar"]

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default",
     "examples", "deprecated", "readOnly", "writeOnly"}
)  # fmt: skip
_MOST_LITERALS = 1024
_MOST_REPEATED = 100_000
#: Repetitions of a rule that stand one after the other: each costs 13 ms, once for a form. Of more,
#: some together are a rule of their own, which costs 25 ms for each token instead.
_MOST_IN_A_ROW = 32
_TOGETHER = 8
_COMMON = r"""
space ::= "" | " " | "\n" four{0,7} [ \t]{0,4}
four ::= "    " | "\t"
comma ::= "," space
colon ::= ":" [ ]{0,1}
character ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]
string ::= "\"" character* "\""
digits ::= "0" | [1-9] [0-9]{0,15}
integer ::= "-"{0,1} digits
number ::= integer ("." [0-9]{1,15}){0,1} ([eE] [+-]{0,1} [0-9]{1,3}){0,1}
boolean ::= "true" | "false"
null ::= "null"
value ::= object | array | string | number | boolean | null
pair ::= string colon value
object ::= "{" space "}" | "{" space pair (comma pair)* space "}"
array ::= "[" space "]" | "[" space value (comma value)* space "]"
"""
_FORMATS = {
    "date": r'"\"" [0-9]{4} "-" date "\""',
    "date-time": r'"\"" [0-9]{4} "-" date "T" time "\""',
    "time": r'"\"" time "\""',
    "uuid": r'"\"" hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12} "\""',
}
_PARTS_OF_FORMATS = r"""
date ::= ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])
time ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] "Z"
hex ::= [0-9a-f]
"""


class UnknownToGrammar(ValueError):
    """A schema says something that is not known here."""


def json_grammar(schema: str) -> str:
    """Return the grammar, in EBNF, of JSON that a schema accepts.

    Properties come in the order of the schema, and no others than it names. Raises
    `UnknownToGrammar` for a schema with other keywords, or that is none.
    """
    try:
        read = json.loads(schema)
    except ValueError as error:
        raise UnknownToGrammar(str(error)) from error
    return _Grammar(read).text()


class _Grammar:
    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rules: list[str] = []
        self._references: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._root = self._value(schema)

    def text(self) -> str:
        return f"root ::= {self._root}\n" + "\n".join(self._rules) + _COMMON + _PARTS_OF_FORMATS

    def _rule(self, body: str) -> str:
        if body not in self._names:  # the same one twice would cost twice
            self._names[body] = f"r{len(self._rules)}"
            self._rules.append(f"{self._names[body]} ::= {body}")
        return self._names[body]

    def _value(self, schema: Any) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise UnknownToGrammar(f"no schema: {schema!r}")
        said = {name: value for name, value in schema.items() if name not in _ANNOTATIONS}
        if not said:
            return "value"
        for name in ("$ref", "const", "enum", "anyOf", "oneOf", "allOf"):
            if name in said:
                if name in ("const", "enum"):
                    _require_known(said, {name, "type"})
                    return self._one_of([said[name]] if name == "const" else said[name], said)
                _require_known(said, {name})
                return self._combined(name, said[name])
        kind = said.pop("type", None)
        if isinstance(kind, list) and kind:
            return self._rule(" | ".join(self._value({**schema, "type": one}) for one in kind))
        known = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
        }
        if isinstance(kind, str) and kind in known:
            return known[kind](said)
        if kind not in ("number", "boolean", "null"):
            raise UnknownToGrammar(f"type {kind!r}")
        _require_known(said, ())
        return str(kind)

    def _one_of(self, values: Any, said: Mapping[str, Any]) -> str:
        """Return a rule for the values of an enumeration that are of its type, if it has one."""
        if not isinstance(values, list) or len(values) > _MOST_LITERALS:
            raise UnknownToGrammar("enum")
        kinds = said.get("type")
        if kinds is not None:
            kinds = kinds if isinstance(kinds, list) else [kinds]
            values = [value for value in values if any(_is_of(value, kind) for kind in kinds)]
        if not values:
            raise UnknownToGrammar("enum or const: no value is allowed")
        literals = [_literal(value) for value in values]
        return literals[0] if len(literals) == 1 else self._rule(" | ".join(literals))

    def _combined(self, name: str, value: Any) -> str:
        if name == "$ref":
            return self._referenced(value)
        if not isinstance(value, list) or not value or len(value) > _MOST_LITERALS:
            raise UnknownToGrammar(name)
        if name == "allOf" and len(value) > 1:
            raise UnknownToGrammar(name)
        return self._rule(" | ".join(map(self._value, value)))

    def _referenced(self, reference: Any) -> str:
        if reference not in self._references:
            target = self._schema
            for part in str(reference).removeprefix("#").strip("/").split("/"):
                if part:
                    if not isinstance(target, dict) or part not in target:
                        raise UnknownToGrammar(f"{reference} refers to nothing")
                    target = target[part]
            # Its rule is named before it is made: it may refer to itself.
            number = len(self._rules)
            self._rules.append("")
            self._references[reference] = f"r{number}"
            self._rules[number] = f"r{number} ::= {self._value(target)}"
        return self._references[reference]

    def _object(self, said: dict[str, Any]) -> str:
        _require_known(said, {"properties", "required", "additionalProperties"})
        properties = said.get("properties", {})
        required = said.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise UnknownToGrammar("properties or required")
        properties = properties | {name: True for name in required if name not in properties}
        if not properties:
            others = said.get("additionalProperties", True)
            if others is False:
                return self._rule('"{" space "}"')
            pair = f"string colon {self._value(others)}"
            return self._rule(f'"{{" space ({pair} (comma {pair})* space){{0,1}} "}}"')
        return self._rule(f'"{{" space {self._properties(properties, required)} "}}"')

    def _properties(self, properties: Mapping[str, Any], required: list[str]) -> str:
        """Return a rule for all of them in their order, where only `required` must be there."""
        # What may follow when none was there yet, and when one was.
        first, after = '""', "space"
        for name, schema in reversed(list(properties.items())):
            pair = f"{_literal(name)} colon {self._value(schema)}"
            if name in required:
                first, after = f"{pair} {after}", f"comma {pair} {after}"
            else:
                first = f"({pair} {after} | {first})"
                after = f"(comma {pair} {after} | {after})"
            first, after = self._rule(first), self._rule(after)
        return first

    def _array(self, said: dict[str, Any]) -> str:
        _require_known(said, {"items", "minItems", "maxItems"})
        least, most = _bounds(said, "minItems", "maxItems")
        item = self._value(said.get("items", True))
        if most == 0:
            return '"[" space "]"'
        following = self._rule(f"comma {item}")
        further = self._repeated(following, max(least - 1, 0), None if most is None else most - 1)
        filled = f'"[" space {item} {further} space "]"'
        return self._rule(filled if least else f'"[" space "]" | {filled}')

    def _string(self, said: dict[str, Any]) -> str:
        if "format" in said:
            _require_known(said, {"format"})
            if said["format"] not in _FORMATS:
                raise UnknownToGrammar(f"format {said['format']!r}")
            return self._rule(_FORMATS[said["format"]])
        _require_known(said, {"minLength", "maxLength"})
        least, most = _bounds(said, "minLength", "maxLength")
        if (least, most) == (0, None):
            return "string"
        return self._rule(f'"\\"" {self._repeated("character", least, most)} "\\""')

    def _repeated(self, unit: str, least: int, most: int | None) -> str:
        """Return a rule so many times, in some of some together where they are many.

        Of 200 characters that a string may have, the library would find out for each in turn which
        tokens may follow, for seconds; of a rule that stands in several places it does so once.
        """
        more = f"{unit}*" if most is None else self._up_to(unit, most - least)
        return f"{self._exactly(unit, least)} {more}"

    def _exactly(self, unit: str, times: int) -> str:
        if times <= _MOST_IN_A_ROW:
            return f"{unit}{{{times}}}" if times else ""
        whole, rest = divmod(times, _TOGETHER)
        together = self._rule(f"{unit}{{{_TOGETHER}}}")
        return f"{self._exactly(together, whole)} {self._exactly(unit, rest)}"

    def _up_to(self, unit: str, times: int) -> str:
        if times <= _MOST_IN_A_ROW:
            return f"{unit}{{0,{times}}}" if times else ""
        # So many that they fill each gap between two numbers of those together.
        single = _TOGETHER - 1 + (times - _TOGETHER + 1) % _TOGETHER
        together = self._rule(f"{unit}{{{_TOGETHER}}}")
        whole = self._up_to(together, (times - single) // _TOGETHER)
        return f"{whole} {unit}{{0,{single}}}"

    def _integer(self, said: dict[str, Any]) -> str:
        _require_known(said, {"minimum", "maximum"})
        least, most = said.get("minimum"), said.get("maximum")
        if (least, most) == (None, None):
            return "integer"
        if (least, most) == (0, None):
            return "digits"
        if not (isinstance(least, int) and isinstance(most, int)):
            raise UnknownToGrammar("bounds")
        if not 0 <= most - least < _MOST_LITERALS:
            raise UnknownToGrammar("bounds")
        return self._rule(" | ".join(_literal(number) for number in range(least, most + 1)))


def _require_known(said: Mapping[str, Any], known: Any) -> None:
    if unknown := said.keys() - known:
        raise UnknownToGrammar(", ".join(sorted(unknown)))


def _bounds(said: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    bounds = said.get(least, 0), said.get(most)
    for bound in bounds:
        if bound is not None and (not isinstance(bound, int) or not 0 <= bound <= _MOST_REPEATED):
            raise UnknownToGrammar(f"{least}, {most}")
    if bounds[1] is not None and bounds[0] > bounds[1]:
        raise UnknownToGrammar(f"{least}, {most}")
    return bounds


def _is_of(value: Any, kind: Any) -> bool:
    """Return whether a JSON value is of a schema's type."""
    if isinstance(value, bool) or value is None:
        return bool(kind == ("null" if value is None else "boolean"))
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and value == int(value))
    name = "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
    return bool(kind == name)


def _literal(value: Any) -> str:
    """Return a rule for the JSON of one value, as Python writes it."""
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UnknownToGrammar("half of a character")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
