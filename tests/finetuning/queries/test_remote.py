"""The client of a remote engine, against a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml.errors import DeadlineExceeded, ServiceError, UpstreamError, UpstreamRefused
from ml.finetuning.queries.engine import query_engine
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import QueryParams
from tests.finetuning.queries.conftest import write_database
from tests.finetuning.queries.query_engine_server import QueryEngineServer, serving
from tests.support.processes import free_port

QUERY = QueryParams(
    query="SELECT * FROM tweets WHERE user_id = ?",
    params=["user123", 5, None],
    refiner_id=12,
    query_signature="0xabc",
)
WAITING = {"query_status": "processing"}
READY = {"query_status": "success", "query_results": "/results.db"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QueryEngineServer]:
    path = write_database(
        tmp_path / "theirs.db",
        "CREATE TABLE results (text TEXT)",
        "INSERT INTO results VALUES ('Plums again.'), ('The ferry is late.')",
    )
    with serving(QueryEngineServer(results=path.read_bytes(), polls=[READY])) as running:
        yield running


def run(
    server: QueryEngineServer,
    results: QueryResults,
    check: Any = lambda: None,
    query: QueryParams = QUERY,
    **limits: Any,
) -> str:
    engine = query_engine(server.url + "/", results, _ := None) if False else None
    engine = query_engine(server.url + "/", Path(), results, QueryLimits(**limits))
    return engine.run(query, "job-1", check)


def test_a_query_is_asked_awaited_and_its_results_are_kept(
    server: QueryEngineServer, results: QueryResults
) -> None:
    server.polls = [WAITING, WAITING, READY]
    query_id = run(server, results)
    assert query_id == "remote-1"
    (asked,) = server.asked
    assert asked["headers"]["x-query-signature"] == "0xabc"
    assert asked["body"] == {
        "query": QUERY.query,
        "params": ["user123", 5, None],
        "refiner_id": 12,
        "job_id": "job-1",
    }
    rows = [row.value for row in results.open(query_id).rows]
    assert rows == [{"text": "Plums again."}, {"text": "The ferry is late."}]
    assert [path.name for path in results.folder.iterdir()] == ["remote-1.db"]


def test_an_unsigned_query_has_no_signature_header(
    server: QueryEngineServer, results: QueryResults
) -> None:
    run(server, results, query=QueryParams(query="SELECT 1"))
    assert "x-query-signature" not in server.asked[0]["headers"]


def test_the_results_may_have_a_whole_address(
    server: QueryEngineServer, results: QueryResults
) -> None:
    server.polls = [{**READY, "query_results": f"{server.url}/results.db"}]
    assert run(server, results) == "remote-1"


def test_an_engine_that_fails_for_a_moment_is_asked_again(
    server: QueryEngineServer, results: QueryResults
) -> None:
    server.polls = [WAITING, 500, 503, READY]
    assert run(server, results) == "remote-1"
    assert server.polled == 4


FAULTS: list[tuple[dict[str, Any], type[ServiceError], str]] = [
    ({"submit_status": 400}, UpstreamRefused, "the query names no table"),
    ({"submit_status": 500}, UpstreamError, "the query names no table"),
    ({"query_id": "../../etc/passwd"}, UpstreamError, "query_id"),
    ({"query_id": None}, UpstreamError, "query_id"),
    (
        {"polls": [{"query_status": "failed", "error": "no such column"}]},
        UpstreamRefused,
        "no such column",
    ),
    ({"polls": [{"query_status": "failed"}]}, UpstreamRefused, "query failed"),
    ({"polls": [404]}, UpstreamRefused, "status 404"),
    ({"polls": [["no", "object"]]}, UpstreamError, "JSON object"),
    ({"polls": [{"query_status": "success"}]}, UpstreamError, "without query_results"),
    ({"polls": [{**READY, "query_results": "file:///etc/passwd"}]}, UpstreamError, "http"),
    ({"polls": [{**READY, "query_results": "http://[oops"}]}, UpstreamError, "query engine"),
    ({"results_status": 403}, UpstreamError, "status 403"),
    ({"results": b"<html>"}, UpstreamError, "no SQLite database"),
]


@pytest.mark.parametrize(("fault", "error", "said"), FAULTS)
def test_each_failure_says_what_failed_and_leaves_nothing(
    fault: dict[str, Any],
    error: type[ServiceError],
    said: str,
    server: QueryEngineServer,
    results: QueryResults,
) -> None:
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(error, match=said):
        run(server, results)
    assert not results.folder.exists() or list(results.folder.iterdir()) == []


def test_an_engine_that_is_not_there_is_named(results: QueryResults) -> None:
    gone = QueryEngineServer(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UpstreamError, match="cannot be reached"):
        run(gone, results)


def test_a_query_that_never_ends_is_given_up(
    server: QueryEngineServer, results: QueryResults
) -> None:
    server.polls = [WAITING]
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="in time"):
        run(server, results, seconds=0.5)
    assert time.monotonic() - started < 10


def test_results_over_the_limit_are_not_taken_to_their_end(
    server: QueryEngineServer, results: QueryResults
) -> None:
    server.endless = True
    with pytest.raises(UpstreamRefused, match="more than 1000000 bytes"):
        run(server, results, bytes=1_000_000)
    assert list(results.folder.iterdir()) == []


def test_results_that_never_end_are_given_up(
    server: QueryEngineServer, results: QueryResults
) -> None:
    server.endless = True
    with pytest.raises(DeadlineExceeded):
        run(server, results, seconds=0.5, bytes=10**12)


def test_the_wait_ends_when_the_job_is_stopped(
    server: QueryEngineServer, results: QueryResults
) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        if server.polled == 2:
            raise Enough

    server.polls = [WAITING]
    with pytest.raises(Enough):
        run(server, results, check)
