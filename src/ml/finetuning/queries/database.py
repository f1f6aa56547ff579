"""SQLite files that others wrote, opened so that nothing can be changed or run by them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

__all__ = ["connect_read_only", "read_only_uri"]


def read_only_uri(path: Path) -> str:
    """Return the URI under which SQLite opens a file for reading.

    A database that nobody writes to is opened without locks, so that its folder may be read-only;
    one with a log of changes beside it is read with that log.
    """
    logs = (path.with_name(f"{path.name}-{ending}") for ending in ("wal", "journal"))
    in_use = any(log.exists() and log.stat().st_size for log in logs)
    return f"file:{quote(str(path))}?mode=ro{'' if in_use else '&immutable=1'}"


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection to one database, whose schema may call built-in functions alone."""
    database = sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA query_only = ON")
    return database
