"""Stores on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ml.jobs.assignment import Assignment
from ml.jobs.context import JobContext
from ml.jobs.store import JobStore
from tests.support.jobs import PostgresqlServer, postgresql_server
from tests.support.processes import ROOT

#: Gives what the process of a job has, by the job's id.
ContextOf = Callable[[str], AbstractContextManager[JobContext]]


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[JobStore]:
    async with JobStore(url) as store:
        yield store


@pytest.fixture
def context_of(url: str, tmp_path: Path) -> ContextOf:
    return lambda job_id: JobContext(Assignment(url, tmp_path / job_id), job_id)
