"""Fields and turns of a row, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ml.finetuning.data.example import Conversation, Turn
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault

__all__ = ["conversation", "read_turns", "text_field"]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}


def text_field(row: Mapping[str, Any], name: str, under: str = "") -> str:
    """Return a field that must hold a text. `under` is the pointer of the object it stands in."""
    pointer = f"{under}/{name}"
    if name not in row:
        hint = f"give {name}, or name the column that has it in column_map"
        raise RowFault(Rule.MISSING, pointer, f"{name} is missing", hint)
    value = row[name]
    if isinstance(value, list):
        value = _joined_parts(value, pointer)
    if value is None:
        raise RowFault(Rule.EMPTY, pointer, f"{name} is null", "give a text, or leave the row out")
    if not isinstance(value, str):
        message = f"{name} is of type {type(value).__name__}, not a text"
        raise RowFault(Rule.TYPE, pointer, message, "put the value into quotes")
    if not value.strip():
        raise RowFault(Rule.EMPTY, pointer, f"{name} is empty", "give a text, or leave the row out")
    return value


def _joined_parts(parts: list[Any], pointer: str) -> str:
    texts = []
    for index, part in enumerate(parts):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            message = "only parts of type text can be trained"
            raise RowFault(Rule.TYPE, f"{pointer}/{index}", message, "leave other parts out")
        texts.append(text_field(part, "text", f"{pointer}/{index}"))
    return "".join(texts)


def read_turns(row: Mapping[str, Any], column: str) -> list[Turn]:
    """Return the turns that a column lists, as `role`, `content` or as `from`, `value`.

    The column may hold the list as JSON text, as cells of a table do.
    """
    turns = row.get(column)
    if isinstance(turns, str):
        try:
            turns = orjson.loads(turns)
        except orjson.JSONDecodeError:
            message = f"{column} is a text, but no JSON"
            hint = "give a list of turns"
            raise RowFault(Rule.TYPE, f"/{column}", message, hint) from None
    if not isinstance(turns, list):
        rule = Rule.MISSING if turns is None else Rule.TYPE
        raise RowFault(rule, f"/{column}", f"{column} is no list", "give a list of turns")
    return [_turn(turn, f"/{column}/{index}") for index, turn in enumerate(turns)]


def _turn(turn: Any, pointer: str) -> Turn:
    if not isinstance(turn, Mapping):
        raise RowFault(Rule.TYPE, pointer, "the turn is no object", "give {role, content}")
    who, what = ("from", "value") if "from" in turn else ("role", "content")
    if turn.get("tool_calls"):
        message = "tool calls cannot be trained"
        raise RowFault(Rule.TYPE, f"{pointer}/tool_calls", message, "give the call as content")
    named = turn.get(who)
    role = _ROLES.get(named) if isinstance(named, str) else None
    if role is None:
        rule = Rule.ROLE if named is not None else Rule.MISSING
        hint = f"use one of {', '.join(_ROLES)}"
        raise RowFault(rule, f"{pointer}/{who}", f"{who} is no known role", hint)
    trained = role == "assistant" and turn.get("weight", 1) not in (0, False)
    return Turn(role, text_field(turn, what, pointer), trained)


def conversation(turns: Sequence[Turn]) -> Conversation:
    """Return turns as a conversation that ends with its last trained answer.

    What follows that answer teaches nothing and is left out.
    """
    last = max((index for index, turn in enumerate(turns) if turn.trained), default=None)
    if last is None:
        message = "no turn of the assistant that may be trained"
        hint = "give at least one answer, with a weight other than 0"
        raise RowFault(Rule.NO_ANSWER, "", message, hint)
    return Conversation(tuple(turns[: last + 1]))
