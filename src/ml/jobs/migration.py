"""Bringing the tables of the job store up to date, once at start."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from ml.jobs.database import normal_url, sync_engine

__all__ = ["migrate"]

#: An arbitrary number that no other application's advisory lock should have.
_LOCK = 0x6A_6F_62_73
_MOST_WAIT_SECONDS = 30


def migrate(url: str) -> None:
    """Make the tables, or change them to what this version needs; several may do so at once."""
    url = normal_url(url)
    if url.startswith("sqlite"):
        Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = sync_engine(url)
    try:
        _upgrade(engine)
    finally:
        engine.dispose()


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and "locked" in str(error.orig)


# SQLite refuses at once, whatever busy_timeout says, where two switch a new file to WAL together.
@retry(
    retry=retry_if_exception(_is_locked),
    stop=stop_after_delay(_MOST_WAIT_SECONDS),
    wait=wait_random(0.01, 0.1),
    reraise=True,
)
def _upgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:  # on SQLite, this is the lock
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
