"""What a look at a data set found: its faults, its lengths, and what training on it takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ml.errors import UnprocessableInput

__all__ = [
    "DataReport",
    "Fault",
    "MemoryEstimate",
    "ReadRow",
    "Rule",
    "Segment",
    "TokenCounts",
    "UnusableData",
    "shown",
]


class Rule(StrEnum):
    """What a row breaks."""

    #: The line is no JSON, or no row of the table.
    SYNTAX = "syntax"
    #: The text is not valid Unicode.
    ENCODING = "encoding"
    #: The row is no object.
    NO_OBJECT = "no_object"
    #: A field that the format needs is not there.
    MISSING = "missing"
    #: A field is there and empty.
    EMPTY = "empty"
    #: A field holds something else than is due.
    TYPE = "type"
    #: A turn is of a role that is not known.
    ROLE = "role"
    #: The conversation has no turn to learn from.
    NO_ANSWER = "no_answer"
    #: The chat template refuses the conversation, or does not show where its answers are.
    TEMPLATE = "template"
    #: Nothing to learn from is left within `max_seq_length`.
    NOTHING_TRAINED = "nothing_trained"


#: Characters of a text that a report shows.
_SHOWN = 2000


def shown(text: str) -> str:
    """Return a text, without its middle if it is long."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Fault(_Frozen):
    """Why one row is not usable. It never holds the row's text."""

    file: str
    line: int = Field(
        description="Physical line, from 1; the row's number where there are no lines"
    )
    pointer: str = Field(description="JSON pointer of the field inside the row; '' is the row")
    rule: Rule
    message: str
    hint: str


class TokenCounts(_Frozen):
    """Tokens per example before anything is cut."""

    p50: int
    p95: int
    max: int


class Segment(_Frozen):
    """A part of a rendered example, and whether the model learns to write it."""

    text: str
    trained: bool


class ReadRow(_Frozen):
    """A row as it was read, before its columns are given the format's names."""

    line: int
    values: list[tuple[str, str]] = Field(
        description="Its columns and what they hold, in their order: what is no text as JSON, and "
        "long ones without their middle"
    )


class MemoryEstimate(_Frozen):
    """Bytes that training takes at its peak; `ml.finetuning.data.memory` has the formula."""

    total_bytes: int
    weights_bytes: int
    adapter_bytes: int
    activations_bytes: int
    logits_bytes: int
    trainable_parameters: int


class DataReport(_Frozen):
    """A data set as training would see it, or as its first rows tell.

    Attributes:
        whole: whether all rows were looked at; if not, all numbers are of the first ones.
        columns_used: the columns that were read, by the format's names.
        columns_ignored: those that say something and are not read, with the number of such rows;
            `messages[].name` is a field of turns.
        dropped: rows that are left out, because they are not usable.
        refusal: why nothing can be trained on it; None if it can.
        warnings: what can be trained, and is hardly meant.
        usable: rows that became examples, the validation examples among them.
        truncated: examples longer than `max_seq_length`, which are cut at their end.
        nothing_trained: examples without a trained token after the cut, which are left out.
        supervised_tokens: tokens that count in the loss of one epoch.
        optimizer_steps: how many steps training takes, the estimate being exact without packing;
            None, as the epochs, where that depends on rows that were not looked at.
        sha256: of the file; of the rows as JSON lines where there is no file; None for a part.
        validation_sha256: of the validation data, where it is a data set of its own.
        samples: a few examples as the model reads them.
        first_rows: a few rows as they were read.
    """

    source: str
    sha256: str | None
    whole: bool
    format: str | None
    columns_used: list[str]
    columns_ignored: dict[str, int]
    rows: int
    usable: int
    dropped: int
    refusal: str | None
    warnings: list[str]
    faults: list[Fault]
    fault_counts: dict[Rule, int]
    train_examples: int
    validation_examples: int
    tokens: TokenCounts | None
    total_tokens: int
    truncated: int
    nothing_trained: int
    supervised_tokens: int
    optimizer_steps: int | None
    epochs: float | None
    memory: MemoryEstimate | None
    validation_sha256: str | None = None
    samples: list[list[Segment]]
    first_rows: list[ReadRow]

    def counts(self) -> dict[str, Any]:
        """Return what became of the rows, for a record and for events."""
        return {
            "rows": self.rows,
            "whole": self.whole,
            "usable": self.usable,
            "dropped": self.dropped,
            "reasons": {str(rule): number for rule, number in self.fault_counts.items()},
            "columns_ignored": self.columns_ignored,
        }

    def sentence(self) -> str:
        """Return in a sentence how many rows are left out, and why; no row's text is in it."""
        rows = f"{self.rows} rows" if self.whole else f"the first {self.rows} rows"
        if not self.dropped:
            return f"No row of {rows} dropped"
        reasons = ", ".join(f"{rule} {number}" for rule, number in self.fault_counts.items())
        return f"{self.dropped} of {rows} dropped: {reasons}"


class UnusableData(UnprocessableInput):
    """Nothing can be trained on this data; the report says why, if there is one."""

    default_description = "The training data is not usable."

    def __init__(
        self,
        description: str | None = None,
        *,
        report: DataReport | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(description, retry_after_seconds=retry_after_seconds)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.description, self.report)


def _rebuild(description: str, report: DataReport | None) -> UnusableData:
    return UnusableData(description, report=report)
