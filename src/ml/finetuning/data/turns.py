"""Fields and turns of a row, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from ml.finetuning.data.example import Conversation, Turn
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault

__all__ = ["conversation", "is_blank", "read_history", "read_turns", "text_field", "unread"]

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


#: Ways of a turn to hold a call instead of a text.
_CALLS = ("tool_calls", "function_call")
_READ_OF_A_TURN = frozenset({"role", "content", "from", "value", "weight", *_CALLS})


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
    turns = _listed(row, column, "give a list of turns")
    return [_turn(turn, f"/{column}/{index}") for index, turn in enumerate(turns)]


def read_history(row: Mapping[str, Any]) -> list[Turn]:
    """Return the turns before an instruction, of Alpaca's `history`: pairs, each trained."""
    if is_blank(row.get("history")):
        return []
    turns = []
    for index, pair in enumerate(_listed(row, "history", "give a list of [question, answer]")):
        pointer = f"/history/{index}"
        if not isinstance(pair, list) or len(pair) != 2:
            hint = "give [question, answer]"
            raise RowFault(Rule.TYPE, pointer, "the entry is no pair", hint)
        texts = {"0": pair[0], "1": pair[1]}
        turns.append(Turn("user", text_field(texts, "0", pointer), trained=False))
        turns.append(Turn("assistant", text_field(texts, "1", pointer), trained=True))
    return turns


def _listed(row: Mapping[str, Any], column: str, hint: str) -> list[Any]:
    """Return the list in a column, which may be written as JSON, as cells of a table have it."""
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            message = f"{column} is a text, but no JSON"
            raise RowFault(Rule.TYPE, f"/{column}", message, hint) from None
    if not isinstance(value, list):
        rule = Rule.MISSING if value is None else Rule.TYPE
        raise RowFault(rule, f"/{column}", f"{column} is no list", hint)
    return value


def is_blank(value: Any) -> bool:
    """Return whether a field holds nothing: null, no text, or an empty list, also as JSON."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null")
    return value is None or value == [] or value == {}


def unread(row: Mapping[str, Any], columns: Collection[str]) -> set[str]:
    """Return what of a row is not among these columns, or not read of a turn, and is not blank.

    What is not read of a turn is told as `messages[].name`.
    """
    found = {
        str(name) for name, value in row.items() if name not in columns and not is_blank(value)
    }
    for column in ("messages", "conversations"):
        turns = row.get(column) if column in columns else None
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, Mapping):
                found |= {
                    f"{column}[].{name}"
                    for name, value in turn.items()
                    if name not in _READ_OF_A_TURN and not is_blank(value)
                }
    return found


def _turn(turn: Any, pointer: str) -> Turn:
    if not isinstance(turn, Mapping):
        raise RowFault(Rule.TYPE, pointer, "the turn is no object", "give {role, content}")
    who, what = ("from", "value") if "from" in turn else ("role", "content")
    for name in _CALLS:
        if not is_blank(turn.get(name)):
            message = "calls of tools cannot be trained"
            raise RowFault(Rule.TYPE, f"{pointer}/{name}", message, "give the call as content")
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
