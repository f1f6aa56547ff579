"""The embedded query engine: SQL against the SQLite files of the input folder."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml.errors import NotFound, UnprocessableInput
from ml.finetuning.limited import ask
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.query_process import Question
from ml.finetuning.queries.results import QueryResults
from ml.finetuning.request import QueryParams

__all__ = ["DATABASE_ENDINGS", "EmbeddedQueryEngine"]

#: Of the names of files that are asked.
DATABASE_ENDINGS = (".db", ".sqlite", ".sqlite3")
#: SQLite attaches no more.
_MOST_DATABASES = 10
_PROCESS = "ml.finetuning.queries.query_process"
_OWN_NAMES = ("main", "temp")
#: For a query to be judged, which is not run.
_JUDGE_SECONDS = 10.0


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
        `UnprocessableInput` for what is no single SELECT or gives too much, `NotFound` without a
        database, `DeadlineExceeded` after the limit's seconds.
        """
        query_id = f"query-{uuid.uuid4().hex}"
        question = self._question(query, self._limits.seconds)
        with self._results.new_file(query_id) as path:
            _ask(replace(question, results=str(path)), check)
        return query_id

    def judge(self, query: QueryParams, check: Callable[[], None]) -> None:
        """Raise what `run` would for a query that is no SELECT over the databases; run nothing."""
        _ask(self._question(query, _JUDGE_SECONDS), check)

    def _question(self, query: QueryParams, seconds: float) -> Question:
        return Question(
            databases=self._databases(),
            query=query.query,
            params=_parameters(query.params),
            results=None,
            seconds=seconds,
            rows=self._limits.rows,
            bytes=self._limits.bytes,
        )

    def _databases(self) -> dict[str, str]:
        root = self._input_path.resolve()
        files = [
            path.resolve()
            for path in sorted(self._input_path.glob("*"))
            if path.suffix in DATABASE_ENDINGS
            and path.resolve().is_relative_to(root)
            and path.is_file()
        ]
        found = {f"{path.stem}_" if path.stem in _OWN_NAMES else path.stem: path for path in files}
        if not found:
            raise NotFound(
                f"there is no database ({', '.join(DATABASE_ENDINGS)}) in the input folder"
            )
        if len(found) > _MOST_DATABASES:
            raise UnprocessableInput(
                f"the input folder has {len(found)} databases; {_MOST_DATABASES} can be queried"
            )
        return {name: str(path) for name, path in found.items()}


def _ask(question: Question, check: Callable[[], None]) -> None:
    too_long = "query: it took too long; narrow it, or add an index"
    ask(_PROCESS, question.to_json(), seconds=question.seconds, too_long=too_long, check=check)


def _parameters(params: Sequence[Any]) -> list[Any]:
    for index, value in enumerate(params):
        if value is not None and not isinstance(value, str | int | float):
            raise UnprocessableInput(f"params[{index}]: give a text, a number, true, false or null")
    return list(params)
