"""Results of queries: SQLite files `<query id>.db` with one table, `results`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput, NotFound
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import Row, RowFault, RowSource
from ml.finetuning.queries.database import connect_read_only, write_results

__all__ = ["QueryResults", "check_results"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SCRATCH = ".new-"
_ABANDONED_SECONDS = 24 * 3600.0


class QueryResults:
    """The kept results, in one folder; results that lie in `given` can be read too.

    `given` is the folder in which an operator may place results, such as the input folder.
    """

    def __init__(self, folder: Path, given: Path | None = None) -> None:
        self.folder = folder
        self._given = given

    @staticmethod
    def is_id(query_id: str) -> bool:
        """Return whether this is a plain name, as ids of queries are."""
        return _ID.fullmatch(query_id) is not None

    def _check_id(self, query_id: str) -> None:
        if not self.is_id(query_id):
            raise InvalidInput("query_id: give a plain name of letters, digits, '.', '_' and '-'")

    def find(self, query_id: str) -> Path:
        """Return the file of a query's results.

        Raises `InvalidInput` for an id that is no plain name, `NotFound` where there is no file.
        """
        self._check_id(query_id)
        for folder in (self.folder, self._given):
            if folder is not None:
                path = (folder / f"{query_id}.db").resolve()
                if path.is_relative_to(folder.resolve()) and path.is_file():
                    return path
        raise NotFound(f"query_id: there are no results of a query {query_id!r}")

    def open(self, query_id: str) -> RowSource:
        """Return the rows as training data.

        Raises as `find` does, and `UnusableData` if the file has no table `results`.
        """
        path = self.find(query_id)
        check_results(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return RowSource(f"query {query_id}", sha256, _rows(path))

    @contextlib.contextmanager
    def new_file(self, query_id: str) -> Iterator[Path]:
        """Give a path to write to; with the end of the block the results are there, whole."""
        self._check_id(query_id)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_SCRATCH) as scratch:
            path = Path(scratch, "results.db")
            yield path
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(self.folder / f"{query_id}.db")

    def _remove_abandoned(self) -> None:
        """Remove what a process that was killed left behind."""
        for left in self.folder.glob(f"{_SCRATCH}*"):
            with contextlib.suppress(FileNotFoundError):  # its owner or another was faster
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left)

    def keep(self, query_id: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows as the results of a query, all or nothing."""
        with self.new_file(query_id) as path:
            write_results(path, columns, rows)


def check_results(path: Path) -> None:
    """Raise `UnusableData` unless a file is an SQLite database with a table `results`."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'results'"
    try:
        with closing(connect_read_only(path)) as database:
            found = database.execute(query).fetchone()[0]
    except sqlite3.Error as error:
        raise UnusableData(f"{path.name} is no SQLite database: {error}") from error
    if not found:
        raise UnusableData(f"{path.name} has no table results")


def _rows(path: Path) -> Iterator[Row]:
    try:
        with closing(connect_read_only(path)) as database:
            cursor = database.execute("SELECT * FROM results")
            columns = [column[0] for column in cursor.description]
            for number, values in enumerate(cursor, start=1):
                yield Row(number, _row(columns, values))
    except sqlite3.Error as error:
        raise UnusableData(f"{path.name} cannot be read: {error}") from error


def _row(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Any] | RowFault:
    row: dict[str, Any] = {}
    for column, value in zip(columns, values, strict=True):
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                hint = "leave the column out of the query, or select its hex()"
                message = "binary data"
                return RowFault(Rule.ENCODING, f"/{column}", message, hint)
        row[column] = str(value) if isinstance(value, int | float) else value
    return row
