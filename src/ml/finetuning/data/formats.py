"""The forms that training data may have: one table, and how a row of each is read.

To add one: write `_read_…(row)`, which returns what the row means or raises `RowFault`, and give
it a line in FORMATS with the smallest sample; detection, documentation and checks follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml.finetuning.data.example import Conversation, Meaning, PlainText, Turn
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault
from ml.finetuning.data.turns import conversation, is_blank, read_history, read_turns, text_field

__all__ = ["FORMATS", "DataFormat", "detect_format", "no_format"]

#: Columns by which a conversation says more than turns; with them only what cannot be trained.
_UNTRAINABLE = {
    "tools": "tools cannot be trained",
    "functions": "functions cannot be trained",
    "images": "images cannot be trained",
    "videos": "videos cannot be trained",
    "audios": "audio cannot be trained",
}


@dataclass(frozen=True)
class DataFormat:
    """A form of training data.

    Attributes:
        needed: columns by which it is recognised.
        optional: columns that are read if they are there.
        sample: the smallest usable row.
    """

    name: str
    description: str
    needed: tuple[str, ...]
    optional: tuple[str, ...]
    sample: dict[str, Any]
    read: Callable[[Mapping[str, Any]], Meaning]

    def meaning(self, row: Mapping[str, Any]) -> Meaning:
        """Return what a row means; raises `RowFault` where it is not usable."""
        for name, message in _UNTRAINABLE.items():
            if name not in self.columns and not is_blank(row.get(name)):
                hint = "leave the column out, or write what it holds into the turns"
                raise RowFault(Rule.TYPE, f"/{name}", message, hint)
        return self.read(row)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.needed, *self.optional)

    def describe(self) -> dict[str, Any]:
        """Return the entry of this format in `GET /datasets/formats`."""
        return {
            "name": self.name,
            "description": self.description,
            "columns": {"needed": list(self.needed), "optional": list(self.optional)},
            "sample": self.sample,
        }


def _read_messages(row: Mapping[str, Any]) -> Conversation:
    return conversation(read_turns(row, "messages"))


def _read_sharegpt(row: Mapping[str, Any]) -> Conversation:
    return conversation([*_system(row), *read_turns(row, "conversations")])


def _read_instruction(row: Mapping[str, Any]) -> Conversation:
    question = text_field(row, "instruction")
    context = _optional(row, "input")
    asked = question if context is None else f"{question}\n\n{context}"
    answered = _question_and_answer(row, asked, text_field(row, "output"))
    before = read_history(row)
    if not before:
        return answered
    turns = answered.turns
    return Conversation((*turns[:-2], *before, *turns[-2:]))


def _read_prompt(row: Mapping[str, Any]) -> Conversation:
    return _question_and_answer(row, text_field(row, "prompt"), text_field(row, "completion"))


def _read_text(row: Mapping[str, Any]) -> PlainText:
    return PlainText(text_field(row, "text"))


def _read_content(row: Mapping[str, Any]) -> PlainText:
    return PlainText(text_field(row, "content"))


def _question_and_answer(row: Mapping[str, Any], asked: str, answer: str) -> Conversation:
    turns = (Turn("user", asked, trained=False), Turn("assistant", answer, trained=True))
    return Conversation((*_system(row), *turns))


def _system(row: Mapping[str, Any]) -> list[Turn]:
    content = _optional(row, "system")
    return [] if content is None else [Turn("system", content, trained=False)]


def _optional(row: Mapping[str, Any], name: str) -> str | None:
    return None if is_blank(row.get(name)) else text_field(row, name)


_QUESTION = "What is the capital of France?"
#: Every form, in the order in which they are recognised.
FORMATS: dict[str, DataFormat] = {
    one.name: one
    for one in (
        DataFormat(
            "messages",
            "OpenAI's: a list of {role, content}; every assistant turn is trained but those with "
            "weight 0",
            ("messages",),
            (),
            {
                "messages": [
                    {"role": "user", "content": _QUESTION},
                    {"role": "assistant", "content": "Paris."},
                ]
            },
            _read_messages,
        ),
        DataFormat(
            "sharegpt",
            "ShareGPT's: a list of {from, value}, from being system, human or gpt; every gpt turn "
            "is trained",
            ("conversations",),
            ("system",),
            {
                "conversations": [
                    {"from": "human", "value": _QUESTION},
                    {"from": "gpt", "value": "Paris."},
                ]
            },
            _read_sharegpt,
        ),
        DataFormat(
            "instruction",
            "Alpaca's: instruction and input, a blank line between them, are the user's turn; "
            "output is the answer; history, a list of [question, answer], comes before",
            ("instruction", "output"),
            ("input", "system", "history"),
            {"instruction": _QUESTION, "input": "", "output": "Paris."},
            _read_instruction,
        ),
        DataFormat(
            "prompt_completion",
            "prompt is the user's turn, completion the answer",
            ("prompt", "completion"),
            ("system",),
            {"prompt": _QUESTION, "completion": "Paris."},
            _read_prompt,
        ),
        DataFormat(
            "text",
            "A text as it is, without a chat template; all of it is trained, and its end; names of "
            "control tokens in it are such tokens",
            ("text",),
            (),
            {"text": "Paris is the capital of France."},
            _read_text,
        ),
        DataFormat(
            "content",
            "The same as text, by the column's other usual name",
            ("content",),
            (),
            {"content": "Paris is the capital of France."},
            _read_content,
        ),
    )
}


def detect_format(rows: Sequence[Any], named: Collection[str] = ()) -> DataFormat | None:
    """Return the format whose columns most of these rows have; None if no row has any's.

    Formats with a column that was `named` go first.
    """
    found: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, Mapping):
            fitting = (one for one in FORMATS.values() if all(name in row for name in one.needed))
            found.update(one.name for one in fitting)
    order = list(FORMATS)

    def rank(name: str) -> tuple[bool, int, int]:
        return bool(set(FORMATS[name].needed) & set(named)), found[name], -order.index(name)

    best = max(found, key=rank, default=None)
    return None if best is None else FORMATS[best]


def no_format(rows: Sequence[Any]) -> RowFault:
    """Return the fault of a data set in which no format was recognised."""
    columns = sorted({str(name)[:40] for row in rows if isinstance(row, Mapping) for name in row})
    wanted = "; ".join(" and ".join(one.needed) for one in FORMATS.values())
    return RowFault(
        Rule.MISSING,
        "",
        f"no known columns; there are {', '.join(columns[:20]) or 'none'}",
        f"name them in column_map as one of: {wanted}",
    )
