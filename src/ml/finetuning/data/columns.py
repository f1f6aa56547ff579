"""The columns of rows: given the names that a format has for them, and counted when not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ml.errors import InvalidInput
from ml.finetuning.data.formats import FORMATS, DataFormat
from ml.finetuning.data.turns import unread

__all__ = ["Columns"]

#: Different columns that are counted; a file may have a new one in each row.
_MOST_NAMES = 100


class Columns:
    """Renames the columns of a data set's rows, and remembers what they were.

    `column_map` gives the data's column by the format's, such as `{"output": "answer"}`. Raises
    `InvalidInput` for a name that no format has.
    """

    def __init__(self, column_map: Mapping[str, str]) -> None:
        known = {name for one in FORMATS.values() for name in one.columns}
        if unknown := sorted(column_map.keys() - known):
            names = ", ".join(sorted(known))
            raise InvalidInput(f"column_map: no format has {unknown[0]!r}; there are {names}")
        self._map = dict(column_map)
        self._gone = set(column_map) | set(column_map.values())
        self._missing = set(column_map.values())
        self._seen: set[str] = set()
        self.used: set[str] = set()
        self.ignored: Counter[str] = Counter()

    def rename(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with the names that a format has."""
        if not self._map:
            return row
        self._missing -= row.keys()
        if len(self._seen) < _MOST_NAMES:
            self._seen.update(map(str, row))
        kept = {name: value for name, value in row.items() if name not in self._gone}
        return kept | {name: row[own] for name, own in self._map.items() if own in row}

    def count(self, row: Mapping[str, Any], form: DataFormat) -> None:
        """Note which columns of a renamed row are read, and which say something and are not."""
        self.used.update(name for name in form.columns if name in row)
        for name in unread(row, form.columns):
            if name in self.ignored or len(self.ignored) < _MOST_NAMES:
                self.ignored[name] += 1

    def require_found(self) -> None:
        """Raise `InvalidInput` if the map names a column that no row had."""
        if self._missing:
            there = ", ".join(sorted(self._seen)[:20])
            raise InvalidInput(f"column_map: no row has {min(self._missing)!r}; there are {there}")
