"""Fields of a form, made from the schema of the request that the form is for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

__all__ = ["FormField", "form_fields"]

Kind = Literal["number", "choice", "choices", "switch", "list", "text", "json"]
#: Texts of more than a line.
_LONG = frozenset({"chat_template", "query"})
_WORDS = {
    "lora": "LoRA",
    "lr": "learning rate",
    "max": "largest",
    "num": "number of",
    "4bit": "4 bits",
}
_NUMBERS = frozenset({"integer", "number"})


@dataclass(frozen=True)
class FormField:
    """One field.

    Attributes:
        name: with a dot where it stands in an object.
        kind: `choice` is one of `options`, `choices` some of them; `list` is names with commas
            between them; `json` is what has no form of its own.
        help: what it means.
        default: as it stands in the field, "" for none.
        limits: the attributes of a number's field by which a browser bounds it, and `above` and
            `below`, for which HTML has none.
    """

    name: str
    kind: Kind
    help: str
    default: str
    options: tuple[str, ...] = ()
    limits: tuple[tuple[str, float | str], ...] = ()
    is_long: bool = False
    required: bool = False

    @property
    def label(self) -> str:
        """Return the name as words."""
        words = [_WORDS.get(word, word) for word in self.name.rpartition(".")[2].split("_")]
        return " ".join((words[0][0].upper() + words[0][1:], *words[1:]))


def form_fields(
    model: type[BaseModel], *, under: str = "", without: Collection[str] = ()
) -> dict[str, FormField]:
    """Return the fields of a request's model by their names, in its order."""
    schema = model.model_json_schema()
    required = set(schema.get("required", ()))
    return {
        name: _field(f"{under}{name}", one, required=name in required)
        for name, one in schema["properties"].items()
        if name not in without
    }


def _field(name: str, schema: dict[str, Any], *, required: bool) -> FormField:
    ways = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    nullable = len(ways) < len(schema.get("anyOf", [schema]))
    kind, options = _kind(ways[0], nullable=nullable)
    default = schema.get("default")
    return FormField(
        name,
        kind,
        schema.get("description", ""),
        _text(default),
        options,
        _limits(ways[0]) if kind == "number" else (),
        is_long=name.rpartition(".")[2] in _LONG,
        required=required,
    )


def _kind(schema: dict[str, Any], *, nullable: bool) -> tuple[Kind, tuple[str, ...]]:
    kind, items = schema.get("type"), schema.get("items", {})
    if kind == "boolean":
        return ("choice", ("", "true", "false")) if nullable else ("switch", ())
    if "enum" in schema:
        return "choice", tuple(schema["enum"])
    if kind == "array" and "enum" in items:
        return "choices", tuple(items["enum"])
    if kind == "array" and items.get("type") == "string" and "maxLength" not in items:
        return "list", ()
    if kind in _NUMBERS:
        return "number", ()
    return ("text", ()) if kind == "string" else ("json", ())


def _limits(schema: dict[str, Any]) -> tuple[tuple[str, float | str], ...]:
    names = {
        "minimum": "min",
        "maximum": "max",
        "exclusiveMinimum": "above",
        "exclusiveMaximum": "below",
    }
    bounds = ((names[key], schema[key]) for key in names if key in schema)
    return (("step", 1 if schema["type"] == "integer" else "any"), *bounds)


def _text(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default is None or default in ([], {}) else str(default)
