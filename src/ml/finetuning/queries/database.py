"""SQLite files: those that others wrote, opened for reading alone, and those of results."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml.finetuning.data.row import MOST_ROW_BYTES

__all__ = ["connect_read_only", "read_only_uri", "write_results"]


def read_only_uri(path: Path) -> str:
    """Return the URI under which SQLite opens a file for reading.

    A database that nobody writes to is opened without locks, so that its folder may be read-only;
    one with a log of changes beside it is read with that log.
    """
    logs = (path.with_name(f"{path.name}-{ending}") for ending in ("wal", "journal"))
    in_use = any(log.exists() and log.stat().st_size for log in logs)
    return f"file:{quote(str(path))}?mode=ro{'' if in_use else '&immutable=1'}"


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection to one database, whose schema may call built-in functions alone.

    A row that its schema makes longer than a row may be is an error.
    """
    database = sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA query_only = ON")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)
    return database


def write_results(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows into the table `results` of a new database."""
    names = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    places = ", ".join("?" * len(columns))
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE results ({names})")
        database.executemany(f"INSERT INTO results VALUES ({places})", rows)  # noqa: S608
        database.commit()
