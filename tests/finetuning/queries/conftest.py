"""An input folder with a real SQLite database, and results to keep."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ml.finetuning.queries.results import QueryResults


def write_database(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


@pytest.fixture
def input_path(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    write_database(
        folder / "social.db",
        "CREATE TABLE tweets (user_id TEXT, text TEXT, likes INTEGER, created_at TEXT)",
        "INSERT INTO tweets VALUES ('user123', 'Plums again.', 3, '2024-01-01'),"
        " ('user123', 'The ferry is late.', 5, '2024-01-02'),"
        " ('other', 'Not mine.', 1, '2024-01-03')",
    )
    return folder


@pytest.fixture
def results(tmp_path: Path, input_path: Path) -> QueryResults:
    return QueryResults(tmp_path / "working" / "queries", input_path)
