"""What runs queries, and a job's query that runs only once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ml.finetuning.queries.embedded import EmbeddedQueryEngine
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.remote import RemoteQueryEngine
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import QueryParams

__all__ = ["QUERY_FILE", "QueryEngine", "query_engine", "query_once"]

#: In the job's folder: the id of its query's results.
QUERY_FILE = "query_id"


class QueryEngine(Protocol):
    """Runs a query and keeps its rows; the id finds them in `QueryResults`."""

    def run(self, query: QueryParams, job_id: str, check: Callable[[], None]) -> str:
        """Return the results' id; `check` is called now and then, and may raise to stop it."""


def query_engine(
    url: str | None, input_path: Path, results: QueryResults, limits: QueryLimits | None = None
) -> QueryEngine:
    """Return the remote engine at this address, or the embedded one without an address."""
    if url:
        return RemoteQueryEngine(url, results, limits)
    return EmbeddedQueryEngine(input_path, results, limits)


def query_once(
    engine: QueryEngine, query: QueryParams, job_id: str, folder: Path, check: Callable[[], None]
) -> str:
    """Run a job's query, or return the id of the results if the job ran it before.

    The id is kept in the job's folder: a job that is resumed trains on the same rows.
    """
    kept = folder / QUERY_FILE
    if kept.exists():
        return kept.read_text()
    query_id = engine.run(query, job_id, check)
    scratch = folder / ".query_id"
    scratch.write_text(query_id)
    scratch.replace(kept)
    return query_id
