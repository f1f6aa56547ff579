"""Engines for the job store's database, SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ml.errors import ConfigurationError, ServiceError, StorageFull, StorageUnavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["async_engine", "normal_url", "plain", "reading", "store_failure", "sync_engine"]

#: (synchronous, asynchronous) driver of each database.
_DRIVERS = {"sqlite": ("pysqlite", "aiosqlite"), "postgresql": ("psycopg", "asyncpg")}
_FORM = "write postgresql://user:password@host:5432/name"
_MOST_PORT = 65535
#: Of SQLite, on each connection.
_PRAGMAS = ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
#: What SQLite says of a file that it does not get at.
_AWAY = ("unable to open database", "disk i/o error")
_UNREACHABLE = (OperationalError, InterfaceError, PoolTimeout, OSError)
#: Of PostgreSQL: no connection, no resources, it is shut down or starts.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES = ("08", "53", "57P")
#: What SQLite, PostgreSQL and the system say of a disk without room.
_FULL = ("disk is full", "no space left", "disk quota exceeded", "diskfull")
#: Execution options of a transaction that only reads, which on SQLite then locks nobody out.
reading: dict[str, Any] = {"read_only": True}


def normal_url(url: str) -> str:
    """Return a store's URL without a driver, and for a SQLite file with its absolute path.

    Raises `ConfigurationError`, without the URL, for anything but SQLite in a file and PostgreSQL.
    """
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigurationError(f"the job store's URL cannot be read: {_FORM}") from None
    if any(map(str.isspace, parsed.host or "")):
        raise ConfigurationError(f"the job store's URL has a space in its host: {_FORM}")
    if parsed.port is not None and not 0 < parsed.port <= _MOST_PORT:
        raise ConfigurationError(f"the job store's URL has no port from 1 to {_MOST_PORT}: {_FORM}")
    database = parsed.get_backend_name()
    if database not in _DRIVERS:
        raise ConfigurationError(f"the job store is SQLite or PostgreSQL, not {database!r}")
    parsed = parsed.set(drivername=database)
    if database == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigurationError("the job store needs a file: sqlite:///path/of/jobs.db")
        parsed = parsed.set(database=str(Path(parsed.database).absolute()))
    return parsed.render_as_string(hide_password=False)


def sync_engine(url: str) -> Engine:
    """Return the engine of a job's own process."""
    engine = create_engine(_with_driver(url, asynchronous=False), **_options(url))
    _set_up(engine)
    return engine


def async_engine(url: str) -> AsyncEngine:
    """Return the engine of a web worker."""
    # Here, because it loads half of SQLAlchemy more, for which each job's process would wait.
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(_with_driver(url, asynchronous=True), **_options(url))
    _set_up(engine.sync_engine)
    return engine


def store_failure(error: BaseException) -> ServiceError | None:
    """Return what a failure of the database means for a caller; None for a fault in the query.

    No parameter and no path is in it.
    """
    if isinstance(error, ServiceError):
        return None
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = str(cause).lower()
    if any(words in said for words in _FULL):
        return StorageFull("The disk of the job store is full; free space first.")
    if "locked" in said:
        return StorageUnavailable(
            "The job store is locked by another process; try again.", retry_after_seconds=1
        )
    if "readonly" in said or "read-only" in said:
        return StorageUnavailable("The job store can only be read.")
    if isinstance(cause, sqlite3.Error):
        is_away = any(words in said for words in _AWAY)
    else:
        state = getattr(cause, "sqlstate", None) or ""
        is_away = isinstance(error, _UNREACHABLE) or state.startswith(_SQLSTATES)
    if is_away:
        return StorageUnavailable("The job store cannot be reached now.", retry_after_seconds=1)
    return None


def plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return JSON data as it comes back from the store: NaN is null, a tuple is a list.

    Raises `TypeError` for what is no JSON.
    """
    result: dict[str, Any] = orjson.loads(_dumps(value))
    return result


def _dumps(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "json_serializer": _dumps,
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # requests and results do not belong into error messages
    }
    if not url.startswith("sqlite"):
        options["pool_pre_ping"] = True  # else the first query after a server's restart fails
    return options


def _with_driver(url: str, *, asynchronous: bool) -> URL:
    parsed = make_url(normal_url(url))
    driver = _DRIVERS[parsed.drivername][asynchronous]
    if driver == "asyncpg" and "sslmode" in parsed.query:  # libpq's name for asyncpg's `ssl`
        mode = parsed.query["sslmode"]
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return parsed.set(drivername=f"{parsed.drivername}+{driver}")


def _set_up(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin too late; we send BEGIN below
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads and then writes would fail at once when another has written in
        # between, whatever busy_timeout says; and one that does not fail may lose an update.
        read_only = connection.get_execution_options().get("read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
