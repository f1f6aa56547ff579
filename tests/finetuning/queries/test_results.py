"""Kept results, and their way into training."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ml.errors import InvalidInput, NotFound
from ml.finetuning.data.prepare import examine
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.tokenizer import load_tokenizer
from ml.finetuning.queries.embedded import EmbeddedQueryEngine
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import FinetuningRequest, QueryParams
from ml.models.embedded_llm import EMBEDDED_LLM
from tests.finetuning.queries.conftest import write_database


def test_results_are_a_database_with_one_table(results: QueryResults) -> None:
    results.keep("query-1", ["prompt", "completion"], [("a", "b"), ("c", 4)])
    with closing(sqlite3.connect(results.folder / "query-1.db")) as database:
        assert database.execute("SELECT * FROM results").fetchall() == [("a", "b"), ("c", 4)]
    assert [path.name for path in results.folder.iterdir()] == ["query-1.db"]


def test_results_that_cannot_be_written_whole_are_not_there(results: QueryResults) -> None:
    def rows() -> Any:
        yield ("a",)
        raise InvalidInput("too much")

    with pytest.raises(InvalidInput):
        results.keep("query-1", ["text"], rows())
    assert list(results.folder.iterdir()) == []
    with pytest.raises(NotFound, match="query-1"):
        results.open("query-1")


def test_what_a_killed_process_left_a_day_ago_is_removed(results: QueryResults) -> None:
    old, new = results.folder / ".new-old", results.folder / ".new-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "results.db").touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    results.keep("query-1", ["text"], [])
    assert sorted(path.name for path in results.folder.iterdir()) == [".new-new", "query-1.db"]


@pytest.mark.parametrize("query_id", ["../secret", "/etc/passwd", "", "a/b", ".hidden", "a\n"])
def test_an_id_that_is_no_plain_name_is_refused(query_id: str, results: QueryResults) -> None:
    with pytest.raises(InvalidInput, match="query_id"):
        results.open(query_id)
    with pytest.raises(InvalidInput, match="query_id"):
        results.keep(query_id, ["text"], [])


def test_results_that_an_operator_placed_in_the_input_folder_are_found(
    results: QueryResults, input_path: Path
) -> None:
    statements = "CREATE TABLE results (text TEXT)", "INSERT INTO results VALUES ('given')"
    write_database(input_path / "query_77.db", *statements)
    assert [row.value for row in results.open("query_77").rows] == [{"text": "given"}]


@pytest.mark.parametrize("statement", ["CREATE TABLE other (a)", "CREATE VIEW results AS SELECT 1"])
def test_a_database_without_the_table_is_refused(
    statement: str, results: QueryResults, input_path: Path
) -> None:
    write_database(input_path / "odd.db", statement)
    with pytest.raises(UnusableData, match="no table results"):
        results.open("odd")


def test_a_file_that_is_no_database_is_refused(results: QueryResults, input_path: Path) -> None:
    (input_path / "odd.db").write_text("SELECT 1")
    with pytest.raises(UnusableData, match="no SQLite database"):
        results.open("odd")


def test_binary_cells_are_faults_and_texts_stored_as_bytes_are_read(
    results: QueryResults,
) -> None:
    results.keep("query-1", ["text"], [(b"caf\xc3\xa9",), (b"\xff\xfe",)])
    first, second = results.open("query-1").rows
    assert first.value == {"text": "café"}
    assert (second.line, second.value.rule) == (2, Rule.ENCODING)


@pytest.mark.parametrize(
    ("query", "column_map", "form"),
    [
        ("SELECT text FROM tweets", {}, "text"),
        ("SELECT text AS content FROM tweets", {}, "content"),
        ("SELECT text AS tweet FROM tweets", {"text": "tweet"}, "text"),
        ("SELECT user_id AS prompt, likes AS completion FROM tweets", {}, "prompt_completion"),
    ],
)
def test_rows_become_examples(
    query: str,
    column_map: dict[str, str],
    form: str,
    input_path: Path,
    results: QueryResults,
) -> None:
    params = QueryParams(query=query)
    query_id = EmbeddedQueryEngine(input_path, results).run(params, "job", lambda: None)
    request = FinetuningRequest(query_params=params, column_map=column_map)
    tokenizer, _ = load_tokenizer(EMBEDDED_LLM)
    report = examine(results.open(query_id), request, tokenizer).report
    assert (report.format, report.usable, report.refusal) == (form, 3, None)
    assert report.source == f"query {query_id}"


def test_rows_without_an_answer_are_refused_and_never_filled_in(
    input_path: Path, results: QueryResults
) -> None:
    params = QueryParams(query="SELECT user_id AS prompt, NULL AS completion FROM tweets")
    query_id = EmbeddedQueryEngine(input_path, results).run(params, "job", lambda: None)
    request = FinetuningRequest(query_params=params)
    data = examine(results.open(query_id), request, load_tokenizer(EMBEDDED_LLM)[0])
    assert data.train == []
    assert data.report.fault_counts == {Rule.EMPTY: 3}
    assert data.report.refusal is not None
    assert "3 of 3 rows" in data.report.refusal
