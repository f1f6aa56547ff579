"""A query in a process of its own, which can be ended whatever SQLite is doing.

    python -m ml.finetuning.queries.query_process < question.json

A clock inside SQLite is looked at between its instructions, and one instruction may be a function
that takes hours. The question names the databases, the query, its limits and the file to write;
without such a file the query is judged and not run.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml.errors import UnprocessableInput
from ml.finetuning.limited import answer, limit_resources
from ml.finetuning.queries.database import read_only_uri, write_results

__all__ = ["Question"]

#: Bytes of one value.
_MOST_VALUE_BYTES = 16 * 1024**2
_MOST_MEMORY_BYTES = 1024**3
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_WHAT_IS_RUN = "a query is one SELECT, which reads the databases of the input folder"
#: What SQLite says of a statement that is none of those.
_NO_SELECT = (
    *("syntax error", "incomplete input", "one statement"),
    *("not authorized", "authorization denied", "prohibited"),
)
_FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}


@dataclass(frozen=True, slots=True)
class Question:
    """What the process reads: `databases` are files by the names that a query has for them."""

    databases: dict[str, str]
    query: str
    params: list[Any]
    results: str | None
    seconds: float
    rows: int
    bytes: int

    def to_json(self) -> str:
        """Return it as the process reads it."""
        return json.dumps(asdict(self))


def _answer(question: Question) -> str:
    with closing(_connect(question.databases)) as database:
        if question.results is None:
            _judge(database, question)
            return ""
        with _faults_of_the_query():
            cursor = database.execute(question.query, question.params)
        rows = _limited(cursor, question)
        write_results(Path(question.results), _columns(cursor), rows)
    return ""


def _judge(database: sqlite3.Connection, question: Question) -> None:
    with _faults_of_the_query():
        program = database.execute(f"EXPLAIN {question.query}", question.params).fetchall()
    if not any(step[1] == "ResultRow" for step in program):
        raise UnprocessableInput(f"query: this returns no rows; {_WHAT_IS_RUN}")


def _connect(databases: dict[str, str]) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", uri=True, isolation_level=None)
    for name, path in databases.items():
        try:
            database.execute("ATTACH ? AS ?", (read_only_uri(Path(path)), name))
        except sqlite3.Error as error:
            raise UnprocessableInput(
                f"the database {Path(path).name} cannot be opened: {error}"
            ) from error
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA query_only = ON")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_VALUE_BYTES)
    database.set_authorizer(_authorize)
    return database


def _authorize(action: int, table: str | None, function: str | None, *_others: Any) -> int:
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and (table or "").lower().startswith("pragma_"):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (function or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _columns(cursor: sqlite3.Cursor) -> list[str]:
    if cursor.description is None:
        raise UnprocessableInput(f"query: this returns no rows; {_WHAT_IS_RUN}")
    columns = [column[0] for column in cursor.description]
    if len({column.lower() for column in columns}) != len(columns):
        raise UnprocessableInput("query: two columns have one name; rename one of them by AS")
    return columns


def _limited(cursor: sqlite3.Cursor, question: Question) -> Iterator[Sequence[Any]]:
    size = number = 0
    while True:
        with _faults_of_the_query():
            row = cursor.fetchone()
        if row is None:
            return
        number += 1
        if number > question.rows:
            raise UnprocessableInput(
                f"query: more than {question.rows} rows; narrow it, or add a LIMIT"
            )
        size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
        if size > question.bytes:
            raise UnprocessableInput(f"query: more than {question.bytes} bytes of results")
        yield row


@contextmanager
def _faults_of_the_query() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        said = str(error).rstrip(".")
        is_no_select = any(words in said for words in _NO_SELECT)
        raise UnprocessableInput(
            f"query: {said}; {_WHAT_IS_RUN}" if is_no_select else f"query: {said}"
        ) from error
    except OverflowError as error:
        raise UnprocessableInput("params: an integer has more than 64 bits") from error
    except MemoryError as error:
        raise UnprocessableInput("query: it takes too much memory") from error


def main() -> int:
    """Answer the question on the standard input."""
    question = Question(**json.load(sys.stdin))
    disk = 4 * question.bytes + _MOST_VALUE_BYTES  # of one file, such as SQLite's own for sorting
    limit_resources(memory_bytes=_MOST_MEMORY_BYTES, file_bytes=disk, cpu_seconds=question.seconds)
    return answer(lambda: _answer(question))


if __name__ == "__main__":
    sys.exit(main())
