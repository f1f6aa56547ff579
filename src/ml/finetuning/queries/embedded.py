"""The embedded query engine: SQL against the SQLite files of the input folder."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput, NotFound
from ml.finetuning.limited import ask
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.query_process import Question
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import QueryParams

__all__ = ["EmbeddedQueryEngine"]

_ENDINGS = (".db", ".sqlite", ".sqlite3")
#: SQLite attaches no more.
_MOST_DATABASES = 10
_PROCESS = "ml.finetuning.queries.query_process"
_OWN_NAMES = ("main", "temp")


class EmbeddedQueryEngine:
    """Runs one SELECT at a time with bound parameters, read-only, in a process of its own.

    Each `*.db`, `*.sqlite` and `*.sqlite3` of the folder is a database of its file's name, with a
    `_` behind `main` and `temp`, which SQLite has for itself; a table needs the database's name in
    front only if several have one of that name.
    """

    def __init__(
        self, input_path: Path, results: QueryResults, limits: QueryLimits | None = None
    ) -> None:
        self._input_path = input_path
        self._results = results
        self._limits = limits or QueryLimits()

    def run(self, query: QueryParams, job_id: str, check: Callable[[], None]) -> str:
        """Run a query and return the id under which its rows are kept.

        `check` is called now and then while it runs; what it raises ends the query. Raises
        `InvalidInput` for what is no single SELECT or gives too much, `NotFound` without a
        database, `DeadlineExceeded` after the limit's seconds.
        """
        query_id = f"query-{uuid.uuid4().hex}"
        databases, params = self._databases(), _parameters(query.params)
        with self._results.new_file(query_id) as path:
            question = Question(
                databases=databases,
                query=query.query,
                params=params,
                results=str(path),
                seconds=self._limits.seconds,
                rows=self._limits.rows,
                bytes=self._limits.bytes,
            )
            ask(
                _PROCESS,
                question.to_json(),
                seconds=self._limits.seconds,
                too_long="query: it took too long; narrow it, or add an index",
                check=check,
            )
        return query_id

    def _databases(self) -> dict[str, str]:
        root = self._input_path.resolve()
        files = [
            path.resolve()
            for path in sorted(self._input_path.glob("*"))
            if path.suffix in _ENDINGS and path.resolve().is_relative_to(root) and path.is_file()
        ]
        found = {f"{path.stem}_" if path.stem in _OWN_NAMES else path.stem: path for path in files}
        if not found:
            raise NotFound(f"there is no database ({', '.join(_ENDINGS)}) in the input folder")
        if len(found) > _MOST_DATABASES:
            raise InvalidInput(
                f"the input folder has {len(found)} databases; {_MOST_DATABASES} can be queried"
            )
        return {name: str(path) for name, path in found.items()}


def _parameters(params: Sequence[Any]) -> list[Any]:
    for index, value in enumerate(params):
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidInput(f"params[{index}]: give a text, a number, true, false or null")
    return list(params)
