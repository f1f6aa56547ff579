"""Bringing the tables of the job store up to date, once at start."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url, text

from ml.jobs.database import normal_url, sync_engine

__all__ = ["migrate"]

#: An arbitrary number that no other application's advisory lock should have.
_LOCK = 0x6A_6F_62_73


def migrate(url: str) -> None:
    """Make the tables, or change them to what this version needs; several may do so at once."""
    url = normal_url(url)
    if url.startswith("sqlite"):
        Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = sync_engine(url)
    try:
        with engine.begin() as connection:  # on SQLite, this is the lock
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
