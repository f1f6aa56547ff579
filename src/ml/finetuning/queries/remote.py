"""The client of a remote query engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from ml.errors import DeadlineExceeded, UpstreamError, UpstreamRefused
from ml.finetuning.data.report import UnusableData
from ml.finetuning.queries.limits import QueryLimits
from ml.finetuning.queries.results import QueryResults, check_results
from ml.finetuning.request import QueryParams

__all__ = ["RemoteQueryEngine"]

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 5.0
#: Polls that may fail one after the other before the engine counts as gone.
_MOST_FAILURES = 5
_DONE, _FAILED = "success", {"failed", "failure", "error", "cancelled", "timeout"}


class RemoteQueryEngine:
    """Asks a query engine over HTTP and keeps a copy of its results.

    `POST /query` with the query, `GET /query/{id}` until `query_status` is "success" or a failure,
    and `GET` of the SQLite database that `query_results` names. `timeout_seconds` is of one reply
    or one piece of the download; the limits' seconds are of the whole.
    """

    def __init__(
        self,
        url: str,
        results: QueryResults,
        limits: QueryLimits | None = None,
        *,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._results = results
        self._limits = limits or QueryLimits(seconds=600.0)
        self._timeout = httpx.Timeout(timeout_seconds)

    def run(self, query: QueryParams, job_id: str, check: Callable[[], None]) -> str:
        """Run a query and return the engine's id for it, under which its rows are kept.

        `check` is called between requests and pieces; what it raises ends the wait. Raises
        `UpstreamRefused` with the engine's reason, `UpstreamError` when it cannot be reached or
        answers nonsense, and `DeadlineExceeded` after the limit's seconds.
        """
        deadline = time.monotonic() + self._limits.seconds
        with httpx.Client(timeout=self._timeout) as client:
            query_id = self._submit(client, query, job_id)
            with self._results.new_file(query_id) as path:
                url = self._wait(client, query_id, deadline, check)
                self._download(client, url, path, deadline, check)
                try:
                    check_results(path)
                except UnusableData as error:
                    reason = "its results are no SQLite database with a table results"
                    raise UpstreamError(f"the query engine: {reason}") from error
        return query_id

    def _submit(self, client: httpx.Client, query: QueryParams, job_id: str) -> str:
        body = {
            "query": query.query,
            "params": query.params,
            "refiner_id": query.refiner_id,
            "job_id": job_id,
        }
        signature = query.query_signature
        headers = {} if signature is None else {"X-Query-Signature": signature}
        try:
            response = client.post(f"{self._url}/query", json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(error) from error
        query_id = _answer(response).get("query_id")
        if not isinstance(query_id, str) or not QueryResults.is_id(query_id):
            raise UpstreamError("the query engine gave no query_id that can be a file's name")
        return query_id

    def _wait(
        self, client: httpx.Client, query_id: str, deadline: float, check: Callable[[], None]
    ) -> str:
        wait, failures = _FIRST_WAIT_SECONDS, 0
        while True:
            check()
            try:
                answer = _answer(client.get(f"{self._url}/query/{query_id}"))
                failures = 0
            except (httpx.HTTPError, UpstreamError) as error:
                failures += 1
                if failures == _MOST_FAILURES:
                    raise _unreachable(error) from error
                answer = {}
            status = str(answer.get("query_status")).lower()
            if status == _DONE:
                return self._results_url(answer.get("query_results"))
            if status in _FAILED:
                raise UpstreamRefused(f"the query engine: {_reason(answer, f'query {status}')}")
            if time.monotonic() + wait > deadline:
                raise _too_late()
            time.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT_SECONDS)

    def _results_url(self, given: Any) -> str:
        if not isinstance(given, str) or not given:
            raise UpstreamError("the query engine reports success without query_results")
        try:
            url = urljoin(f"{self._url}/", given)
            is_web = urlsplit(url).scheme in ("http", "https")
        except ValueError:
            is_web = False
        if not is_web:
            raise UpstreamError("the query engine's query_results is no http address")
        return url

    def _download(
        self,
        client: httpx.Client,
        url: str,
        path: Path,
        deadline: float,
        check: Callable[[], None],
    ) -> None:
        size = 0
        try:
            with client.stream("GET", url) as response, path.open("wb") as file:
                if response.status_code != httpx.codes.OK:
                    reason = f"its results cannot be had: status {response.status_code}"
                    raise UpstreamError(f"the query engine: {reason}")
                for piece in response.iter_bytes():
                    check()
                    size += len(piece)
                    if size > self._limits.bytes:
                        most = f"more than {self._limits.bytes} bytes of results"
                        raise UpstreamRefused(f"the query engine: {most}")
                    if time.monotonic() > deadline:
                        raise _too_late()
                    file.write(piece)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(error) from error


def _answer(response: httpx.Response) -> dict[str, Any]:
    """Return a reply's object. Raises `UpstreamRefused` for 4xx, `UpstreamError` for the rest."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_client_error:
        reason = _reason(body, f"status {response.status_code}")
        raise UpstreamRefused(f"the query engine refuses this: {reason}")
    if not response.is_success:
        reason = _reason(body, f"status {response.status_code}")
        raise UpstreamError(f"the query engine failed: {reason}")
    if not isinstance(body, dict):
        raise UpstreamError("the query engine answers with something else than a JSON object")
    return body


def _reason(body: Any, otherwise: str) -> str:
    names = ("error", "message", "detail", "description")
    fields = (body.get(name) for name in names) if isinstance(body, dict) else ()
    return next((field[:300] for field in fields if isinstance(field, str) and field), otherwise)


def _unreachable(error: Exception) -> UpstreamError:
    if isinstance(error, UpstreamError):
        return error
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return UpstreamError(f"the query engine cannot be reached: {reason}")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the query engine did not give its results in time")
