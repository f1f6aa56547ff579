"""The rows that a request names: a data set's, or the results of a query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ml.finetuning.data.row import RowSource
from ml.finetuning.data.source import open_dataset
from ml.finetuning.queries.engine import query_engine, query_once
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.queries.signature import check_signature
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_files import SharedFiles
from ml.finetuning.uploads import is_file_id

__all__ = ["open_rows"]


def open_rows(
    request: FinetuningRequest,
    settings: TrainerSettings,
    job_id: str,
    folder: Path,
    check: Callable[[], None],
    shared: SharedFiles | None = None,
) -> RowSource:
    """Return a job's rows; a query runs once for a job, whose folder keeps its id.

    `check` is called while a query runs, and may raise to stop it. Raises what
    `ml.finetuning.data.source` and `ml.finetuning.queries` have for what cannot be read.
    """
    name = request.dataset_name
    if name is not None:
        if shared is not None:
            shared.fetch_dataset(name)
        return open_dataset(name, settings.uploads_path if is_file_id(name) else settings.data_path)
    results = QueryResults(settings.queries_path, given=settings.data_path)
    query_id = request.query_id
    if request.query_params is not None:
        check_signature(request.query_params, settings.query_signers)
        if shared is not None and not settings.query_engine_url:
            shared.fetch_databases()
        engine = query_engine(settings.query_engine_url, settings.data_path, results)
        query_id = query_once(engine, request.query_params, job_id, folder, check)
        if shared is not None:
            shared.keep_results(query_id)
    assert query_id is not None  # noqa: S101  (the request has one of the three)
    if shared is not None and QueryResults.is_id(query_id):
        shared.fetch_results(query_id)
    return results.open(query_id)
