"""Which databases there are, and that processes may all begin at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ml.errors import ConfigurationError
from ml.jobs import schema
from ml.jobs.database import async_engine, normal_url, sync_engine
from ml.jobs.migration import migrate
from ml.jobs.store import JobStore

_START_TOGETHER = """
import sys, time
from ml.jobs.migration import migrate
begin = float(sys.argv[1])
for index, url in enumerate(sys.argv[2:]):
    while time.time() < begin + index * 0.1:  # no sleep: they are to begin within microseconds
        pass
    migrate(url)
"""


def _start_together(urls: list[str]) -> None:
    command = [sys.executable, "-c", _START_TOGETHER, str(time.time() + 2), *urls]
    starts = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [start.communicate(timeout=60)[1] for start in starts]
    assert said == [""] * 4
    assert [start.returncode for start in starts] == [0] * 4


def test_processes_that_start_together_all_find_the_tables(url: str) -> None:
    _start_together([url])
    migrate(url)  # and once more does no harm


def test_processes_that_start_together_all_switch_a_file_to_wal(tmp_path: Path) -> None:
    _start_together([f"sqlite:///{tmp_path}/{index}.db" for index in range(20)])


def test_the_migrations_make_the_tables_that_the_code_knows(url: str) -> None:
    migrate(url)
    engine = sync_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "job_store_version"}
        )
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "redis://h"]
)
def test_other_databases_are_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(ConfigurationError, match="job store"):
        normal_url(url)


def test_a_url_is_the_same_for_workers_and_children_whatever_driver_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert normal_url("sqlite+aiosqlite:///jobs.db") == f"sqlite:///{tmp_path}/jobs.db"
    assert normal_url("postgres://u:p%40@h/d") == "postgresql://u:p%40@h/d"
    assert normal_url("postgresql+asyncpg://u@h/d") == "postgresql://u@h/d"


def test_encryption_is_asked_for_by_each_drivers_own_name() -> None:
    url = "postgresql://u@h/d?sslmode=require"
    assert dict(sync_engine(url).url.query) == {"sslmode": "require"}
    assert dict(async_engine(url).url.query) == {"ssl": "require"}


async def test_a_stores_folder_is_made(tmp_path: Path) -> None:
    async with JobStore(f"sqlite:///{tmp_path}/new/folder/jobs.db") as store:
        assert await store.list() == []
