"""The embedded query engine: SQL against the SQLite files of the input folder."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ml.errors import DeadlineExceeded, InvalidInput, NotFound
from ml.finetuning.queries.database import read_only_uri
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import QueryParams

__all__ = ["EmbeddedQueryEngine"]

_ENDINGS = (".db", ".sqlite", ".sqlite3")
#: SQLite attaches no more.
_MOST_DATABASES = 10
#: Instructions of SQLite's machine between two looks at the clock.
_INSTRUCTIONS = 100_000
#: Bytes of one value: functions such as `zeroblob` could take any amount of memory at once.
_MOST_VALUE_BYTES = 16 * 1024**2
#: Wildcards make LIKE and GLOB slow beyond what the clock can stop, for they are one instruction.
_MOST_PATTERN_BYTES = 256
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}


class EmbeddedQueryEngine:
    """Runs one SELECT at a time with bound parameters, read-only.

    Each `*.db`, `*.sqlite` and `*.sqlite3` of the folder is a database of its file's name; a table
    needs the database's name in front only if several have one of that name.
    """

    def __init__(
        self, input_path: Path, results: QueryResults, limits: QueryLimits | None = None
    ) -> None:
        self._input_path = input_path
        self._results = results
        self._limits = limits or QueryLimits()

    def run(self, query: QueryParams, job_id: str, check: Callable[[], None]) -> str:
        """Run a query and return the id under which its rows are kept.

        `check` is called now and then while it runs; what it raises ends the query. Raises
        `InvalidInput` for what is no single SELECT or gives too much, `NotFound` without a
        database, `DeadlineExceeded` after the limit's seconds.
        """
        query_id = f"query-{uuid.uuid4().hex}"
        clock = _Clock(time.monotonic() + self._limits.seconds, check)
        with closing(self._connect()) as database:
            database.set_progress_handler(clock.tick, _INSTRUCTIONS)
            with _readable_errors(clock):
                cursor = database.execute(query.query, _parameters(query.params))
            self._results.keep(query_id, _columns(cursor), self._limited(cursor, clock))
        return query_id

    def _connect(self) -> sqlite3.Connection:
        files = self._files()
        database = sqlite3.connect(":memory:", uri=True, isolation_level=None)
        try:
            for path in files:
                name = f"{path.stem}_" if path.stem in ("main", "temp") else path.stem
                database.execute("ATTACH ? AS ?", (read_only_uri(path), name))
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            database.close()
            raise InvalidInput(f"the database {path.name} cannot be opened: {error}") from error
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_VALUE_BYTES)
        database.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MOST_PATTERN_BYTES)
        database.set_authorizer(_authorize)
        return database

    def _files(self) -> list[Path]:
        root = self._input_path.resolve()
        found = {
            path.stem: path.resolve()
            for path in sorted(self._input_path.glob("*"))
            if path.suffix in _ENDINGS and path.resolve().is_relative_to(root)
        }
        files = [path for path in found.values() if path.is_file()]
        if not files:
            raise NotFound(f"there is no database ({', '.join(_ENDINGS)}) in the input folder")
        if len(files) > _MOST_DATABASES:
            raise InvalidInput(
                f"the input folder has {len(files)} databases; {_MOST_DATABASES} can be queried"
            )
        return files

    def _limited(self, cursor: sqlite3.Cursor, clock: _Clock) -> Iterator[Sequence[Any]]:
        size = number = 0
        while True:
            with _readable_errors(clock):
                row = cursor.fetchone()
            if row is None:
                return
            number += 1
            if number > self._limits.rows:
                raise InvalidInput(
                    f"query: more than {self._limits.rows} rows; narrow it, or add a LIMIT"
                )
            size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if size > self._limits.bytes:
                raise InvalidInput(f"query: more than {self._limits.bytes} bytes of results")
            yield row


class _Clock:
    """Ends a query whose time is over; SQLite wants a return value, so the error waits here."""

    def __init__(self, deadline: float, check: Callable[[], None]) -> None:
        self._deadline, self._check = deadline, check
        self.raised: Exception | None = None

    def tick(self) -> bool:
        try:
            self._check()
            if time.monotonic() > self._deadline:
                raise DeadlineExceeded("query: it took too long; narrow it, or add an index")
        except Exception as error:
            self.raised = error
        return self.raised is not None


@contextmanager
def _readable_errors(clock: _Clock) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        if clock.raised is not None:
            raise clock.raised from error
        raise InvalidInput(f"query: {error}") from error
    except OverflowError as error:
        raise InvalidInput("params: an integer has more than 64 bits") from error


def _authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _parameters(params: Sequence[Any]) -> tuple[Any, ...]:
    for index, value in enumerate(params):
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidInput(f"params[{index}]: give a text, a number, true, false or null")
    return tuple(params)


def _columns(cursor: sqlite3.Cursor) -> list[str]:
    if cursor.description is None:
        raise InvalidInput("query: give one SELECT; this returns no rows")
    columns = [column[0] for column in cursor.description]
    if len({column.lower() for column in columns}) != len(columns):
        raise InvalidInput("query: two columns have one name; rename one of them by AS")
    return columns
