"""A row of training data as it was read, and what goes wrong with one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ml.finetuning.data.report import Fault, Rule

__all__ = ["MOST_BYTES", "MOST_ROW_BYTES", "Look", "Row", "RowFault", "RowSource"]

#: Of a data set, packed or not: more is a mistake rather than training data.
MOST_BYTES = 64 * 1024**3
#: Of one row, which is held in memory.
MOST_ROW_BYTES = 16 * 1024**2


class RowFault(Exception):
    """A row is not usable; `pointer` is the field's JSON pointer inside the row."""

    def __init__(self, rule: Rule, pointer: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.rule, self.pointer, self.message, self.hint = rule, pointer, message, hint

    def at(self, file: str, line: int) -> Fault:
        """Return it as the report has it."""
        return Fault(
            file=file,
            line=line,
            pointer=self.pointer,
            rule=self.rule,
            message=self.message,
            hint=self.hint,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """What stands at a line: the row's value, or why there is none.

    Attributes:
        bytes: about how long it is, where that may be a lot.
    """

    line: int
    value: Any | RowFault
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """How much of a data set is looked at, before all of it is read by who trains on it."""

    rows: int = 1000
    bytes: int = 4 * 1024**2


@dataclass
class RowSource:
    """Rows in their order, with the name and the SHA-256 of where they come from.

    Attributes:
        sha256: None where only a part was read.
        whole: whether the rows are all there are; known once they are taken.
    """

    name: str
    sha256: str | None
    rows: Iterable[Row]
    whole: bool = True
