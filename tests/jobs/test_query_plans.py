"""What services ask of a store of many runs is answered by its indices."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from ml.jobs.job import JobState
from ml.jobs.store import JobStore
from tests.support.many_runs import LONGEST, fill_store

ASKED: dict[str, Callable[[JobStore], Awaitable[Any]]] = {
    "a page": lambda store: store.list(None, 100),
    "a page behind a job": lambda store: store.list(None, 100, LONGEST),
    "those that run": lambda store: store.list([JobState.RUNNING]),
    "a record": lambda store: store.get(LONGEST),
    "places in the queue": lambda store: store.positions([LONGEST]),
    "one place": lambda store: store.position(LONGEST),
    "the last event": lambda store: store.last_event(LONGEST),
    "events": lambda store: store.events(LONGEST, 500),
    "some events": lambda store: store.events_by_id(LONGEST, [5, 500]),
    "a stretch of events": lambda store: store.raw_events(LONGEST, "progress", 100, 200),
    "stretches of events": lambda store: store.raw_stretches(LONGEST, 100, 1900),
    "the next job": lambda store: store.claim_next("me", 3),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("many") / "jobs.sqlite"
    fill_store(file, runs=50, events=5000, longest=2000)
    return file


@pytest.mark.parametrize("what", ASKED)
async def test_no_table_is_read_from_one_end_to_the_other(file: Path, what: str) -> None:
    asked: list[tuple[str, Any]] = []
    async with JobStore(f"sqlite:///{file}") as store:

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if not statement.startswith("BEGIN"):
                asked.append((statement, parameters))

        event.listen(store._engine.sync_engine, "before_cursor_execute", note)
        await ASKED[what](store)
    assert asked
    connection = sqlite3.connect(file)
    for statement, parameters in asked:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plan = [row[-1] for row in rows]
        whole = [
            step for step in plan if re.fullmatch(r"SCAN (jobs|job_events|job_stretches)", step)
        ]
        assert not whole, (statement, plan)
    connection.close()
