"""Queries against real SQLite files: what they give, and what they cannot do."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ml.errors import DeadlineExceeded, NotFound, UnprocessableInput
from ml.finetuning.queries.embedded import EmbeddedQueryEngine
from ml.finetuning.queries.engine import query_engine, query_once
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import QueryParams
from tests.finetuning.queries.conftest import write_database

DOCUMENT = "SELECT * FROM tweets WHERE user_id = ? ORDER BY created_at DESC LIMIT 100"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT {} FROM n"
Ask = Callable[..., list[Any]]


def nothing() -> None:
    pass


@pytest.fixture
def ask(input_path: Path, results: QueryResults) -> Ask:
    def run(query: str, *params: Any, **limits: Any) -> list[Any]:
        engine = EmbeddedQueryEngine(input_path, results, QueryLimits(**limits))
        query_id = engine.run(QueryParams(query=query, params=list(params)), "job", nothing)
        return [row.value for row in results.open(query_id).rows]

    return run


def judge(input_path: Path, results: QueryResults, query: str, *params: Any) -> None:
    engine = EmbeddedQueryEngine(input_path, results)
    engine.judge(QueryParams(query=query, params=list(params)), nothing)


def test_the_document_s_query_gives_its_rows_in_order(ask: Ask) -> None:
    rows = ask(DOCUMENT, "user123")
    assert [row["text"] for row in rows] == ["The ferry is late.", "Plums again."]
    assert rows[0] == {
        "user_id": "user123",
        "text": "The ferry is late.",
        "likes": "5",
        "created_at": "2024-01-02",
    }


@pytest.mark.parametrize("value", ["' OR 1=1 --", "user123'; DROP TABLE tweets; --", '" OR ""="'])
def test_parameters_are_values_and_never_sql(value: str, ask: Ask) -> None:
    assert ask(DOCUMENT, value) == []
    assert len(ask("SELECT text FROM tweets")) == 3


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM tweets",
        "UPDATE tweets SET text = 'x'",
        "INSERT INTO tweets VALUES ('a', 'b', 1, 'c')",
        "DROP TABLE tweets",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "CREATE TABLE main.t AS SELECT 1",
        "ATTACH '/tmp/other.db' AS other",
        "DETACH social",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT text FROM tweets; DELETE FROM tweets",
        "VACUUM INTO '/tmp/copy.db'",
        "BEGIN",
        "SAVEPOINT a",
        "REINDEX",
        "ANALYZE",
        "WITH t AS (SELECT 1) DELETE FROM tweets",
        "SELECT * FROM no_such_table",
        "SELEC text",
        "-- nothing",
        "INSTALL httpfs",
        "COPY tweets TO '/tmp/x.csv'",
    ],
)
def test_nothing_but_one_select_is_run(
    query: str, ask: Ask, input_path: Path, results: QueryResults
) -> None:
    before = hashlib.sha256((input_path / "social.db").read_bytes()).digest()
    for refuse in (ask, partial(judge, input_path, results)):
        with pytest.raises(UnprocessableInput, match="query: ") as refused:
            refuse(query)
        if "no such table" not in str(refused.value):
            assert "a query is one SELECT, which reads" in str(refused.value)
    assert hashlib.sha256((input_path / "social.db").read_bytes()).digest() == before
    assert sorted(path.name for path in input_path.iterdir()) == ["social.db"]


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (DOCUMENT, ["user123"]),
        ("-- mine\nWITH t AS (SELECT text FROM tweets) SELECT * FROM t", []),
        ("VALUES ('a')", []),
        ("SELECT text FROM tweets WHERE 0 UNION SELECT 'a' LIMIT 0;", []),
        (ENDLESS.format("count(*)"), []),
    ],
)
def test_a_query_is_judged_without_being_run(
    query: str, params: list[str], input_path: Path, results: QueryResults
) -> None:
    judge(input_path, results, query, *params)
    assert not results.folder.exists()


def test_a_query_that_never_ends_is_ended(ask: Ask) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="too long"):
        ask(ENDLESS.format("count(*)"), seconds=0.3)
    assert time.monotonic() - started < 30


def test_a_query_stops_when_its_job_is_stopped(input_path: Path, results: QueryResults) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    engine = EmbeddedQueryEngine(input_path, results)
    with pytest.raises(Enough):
        engine.run(QueryParams(query=ENDLESS.format("count(*)")), "job", check)


def test_too_many_rows_are_refused_and_not_cut(ask: Ask, results: QueryResults) -> None:
    with pytest.raises(UnprocessableInput, match="more than 1000 rows"):
        ask(ENDLESS.format("x"), rows=1000)
    assert list(results.folder.iterdir()) == []


def test_too_many_bytes_are_refused(ask: Ask) -> None:
    with pytest.raises(UnprocessableInput, match="more than 100000 bytes"):
        ask(ENDLESS.format("hex(zeroblob(500))"), bytes=100_000)


@pytest.mark.parametrize("value", ["zeroblob(1000000000)", "randomblob(900000000)"])
def test_no_value_takes_all_memory(value: str, ask: Ask) -> None:
    with pytest.raises(UnprocessableInput, match="too big"):
        ask(f"SELECT {value} AS text")


def test_a_single_function_that_takes_hours_is_ended_in_time(ask: Ask) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="too long"):
        ask("SELECT instr(hex(zeroblob(8000000)), hex(zeroblob(4000000)) || '1')", seconds=0.5)
    assert time.monotonic() - started < 30


def test_the_disk_that_sorting_takes_is_bounded(ask: Ask) -> None:
    sorting = ENDLESS.format("x, hex(zeroblob(100000)) AS text") + " ORDER BY 2, 1 DESC"
    with pytest.raises(UnprocessableInput, match=r"I/O|full"):
        ask(sorting, bytes=1_000_000)


@pytest.mark.parametrize("params", [[["a"]], [{"a": 1}], [], ["a", "b"], [2**70]])
def test_parameters_that_do_not_fit_are_named(params: list[Any], ask: Ask) -> None:
    with pytest.raises(UnprocessableInput, match=r"params|bindings"):
        ask(DOCUMENT, *params)


def test_two_columns_of_one_name_are_refused(ask: Ask) -> None:
    with pytest.raises(UnprocessableInput, match="AS"):
        ask("SELECT text, likes AS TEXT FROM tweets")


def test_column_names_cannot_break_out_of_the_results_table(ask: Ask) -> None:
    name = 'a"); DROP TABLE results; --'
    (row,) = ask(f"""SELECT 1 AS "{name.replace('"', '""')}" """)
    assert row == {name: "1"}


def test_several_databases_are_told_apart_by_their_files_names(ask: Ask, input_path: Path) -> None:
    write_database(input_path / "main.sqlite", "CREATE TABLE names (id TEXT, name TEXT)")
    write_database(
        input_path / "more facts.sqlite3",
        "CREATE TABLE tweets (text TEXT)",
        "INSERT INTO tweets VALUES ('from the other')",
    )
    assert ask('SELECT text FROM "more facts".tweets') == [{"text": "from the other"}]
    assert len(ask("SELECT text FROM social.tweets")) == 3
    assert ask("SELECT name FROM names") == []


def test_without_a_database_there_is_nothing_to_ask(tmp_path: Path, results: QueryResults) -> None:
    engine = query_engine(None, tmp_path / "empty", results)
    with pytest.raises(NotFound, match="no database"):
        engine.run(QueryParams(query="SELECT 1"), "job", nothing)


def test_a_link_out_of_the_input_folder_is_not_opened(
    tmp_path: Path, input_path: Path, ask: Ask
) -> None:
    outside = write_database(tmp_path / "secret.db", "CREATE TABLE secrets (text TEXT)")
    (input_path / "secret.db").symlink_to(outside)
    with pytest.raises(UnprocessableInput, match="no such table"):
        ask("SELECT * FROM secrets")


def test_a_file_that_is_no_database_is_named(input_path: Path, ask: Ask) -> None:
    (input_path / "a.db").write_text("not a database, but long enough to be looked at " * 50)
    with pytest.raises(UnprocessableInput, match=r"a\.db"):
        ask("SELECT 1")


def test_what_another_process_wrote_last_is_seen(input_path: Path, ask: Ask) -> None:
    """A database in use keeps its newest rows in a log beside the file."""
    with closing(sqlite3.connect(input_path / "social.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("INSERT INTO tweets VALUES ('new', 'Just now.', 0, '2024-01-04')")
        database.commit()
        assert (input_path / "social.db-wal").stat().st_size
        assert ask("SELECT text FROM tweets WHERE user_id = 'new'") == [{"text": "Just now."}]


def test_a_folder_that_cannot_be_written_to_can_be_queried(input_path: Path, ask: Ask) -> None:
    with closing(sqlite3.connect(input_path / "social.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
    input_path.chmod(0o555)
    try:
        assert len(ask("SELECT text FROM tweets")) == 3
    finally:
        input_path.chmod(0o755)
    assert sorted(path.name for path in input_path.iterdir()) == ["social.db"]


def test_a_resumed_job_trains_on_the_rows_that_it_had(
    tmp_path: Path, input_path: Path, results: QueryResults
) -> None:
    engine = EmbeddedQueryEngine(input_path, results)
    query = QueryParams(query="SELECT text FROM tweets")
    first = query_once(engine, query, "job", tmp_path, nothing)
    write_database(input_path / "social.db", "DELETE FROM tweets")
    assert query_once(engine, query, "job", tmp_path, nothing) == first
    assert len(list(results.open(first).rows)) == 3
