"""What goes wrong between us and a text generation server, as errors of ours.

Exception
├── Refused          the server's own words: an answer other than 2xx, or an event of a stream
├── BrokenAnswer     an answer that is none
└── aiohttp.ClientError, TimeoutError     no connection, one that broke off, or silence
"""

from __future__ import annotations

import aiohttp

from ml.errors import (
    DeadlineExceeded,
    GenerationFailed,
    Overloaded,
    ServiceError,
    TooManyRequests,
    UpstreamError,
    UpstreamRefused,
)
from ml.json_text import JsonObject

__all__ = [
    "FAILURES",
    "BrokenAnswer",
    "Refused",
    "as_service_error",
    "is_transient",
    "lacks_chat",
    "retry_after_seconds",
]

_TRANSIENT = frozenset({429, 502, 503, 504})
#: Of TGI's error types: an event of a stream has no status of its own.
_STATUS_OF = {"overloaded": 429, "validation": 422, "generation": 424}


class Refused(Exception):
    """What the server says instead of an answer.

    Attributes:
        document: in TGI's or OpenAI's form; empty where there is none, as of a proxy.
        status: None in the middle of a stream.
        retry_after: that header.
    """

    def __init__(
        self, document: JsonObject, status: int | None = None, retry_after: str = ""
    ) -> None:
        super().__init__(document, status)
        self.document = document
        self.status = status
        self.retry_after = retry_after

    @property
    def kind(self) -> object:
        """TGI's or OpenAI's name of the error."""
        error = self.document.get("error")
        return error.get("type") if isinstance(error, dict) else self.document.get("error_type")

    @property
    def meaning(self) -> int | None:
        """The status, or the one that TGI has for this kind."""
        return _STATUS_OF.get(str(self.kind)) if self.status is None else self.status

    @property
    def message(self) -> str:
        """The server's message and error type, never a proxy's page."""
        error = self.document.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        if message is None:
            return f"HTTP {self.status}"
        return f"{message} ({self.kind})" if self.kind else str(message)


class BrokenAnswer(Exception):
    """What the server sent is no answer."""


#: What a request may raise.
FAILURES = (Refused, BrokenAnswer, aiohttp.ClientError, TimeoutError)


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed a little later.

    That is overload, a rate limit, a shard or server that is not ready, a time-out, or a broken
    connection; never a refusal of the request itself.
    """
    if isinstance(error, Refused):
        return error.meaning in _TRANSIENT
    if isinstance(error, aiohttp.InvalidURL):
        return False
    return isinstance(error, aiohttp.ClientError | TimeoutError)


def retry_after_seconds(error: BaseException) -> int | None:
    """Return the seconds of the server's `Retry-After`, if it gave one in seconds."""
    value = error.retry_after if isinstance(error, Refused) else ""
    return int(value) if value.isascii() and value.isdigit() else None


def lacks_chat(error: Refused) -> bool:
    """Return whether a server has no chat route, or its model no chat template."""
    if error.status == 404:  # unless the route itself says that it has no such model
        refusal = error.document.get("error")
        return not isinstance(refusal, dict) or refusal.get("code") != "model_not_found"
    return error.status == 405 or (error.status == 422 and error.kind == "template_error")


def as_service_error(error: Exception) -> ServiceError:
    """Return the error of ours for a failure, with the server's own words."""
    if isinstance(error, Refused):
        return _of_refusal(error)
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("The model server behind this service took too long.")
    if isinstance(error, BrokenAnswer):
        return UpstreamError(str(error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("The model server behind this service cannot be reached.")
    return UpstreamError("The model server behind this service broke the connection off.")


def _of_refusal(refused: Refused) -> ServiceError:
    status, message = refused.meaning, refused.message
    if status == 504:
        return DeadlineExceeded("The model server behind this service took too long.")
    if status in (429, 503):
        of_ours = Overloaded if status == 503 else TooManyRequests
        text = f"The model server is at its limit: {message}"
        return of_ours(text, retry_after_seconds=retry_after_seconds(refused))
    if status in (400, 413, 422):
        return UpstreamRefused(f"The model server refuses the request: {message}")
    if status == 424 or refused.kind == "incomplete_generation":  # which TGI tells as a 500
        return GenerationFailed(f"The model server failed to generate: {message}")
    if status in (401, 403):
        return UpstreamError("The model server refuses this service's token.")
    return UpstreamError(f"The model server failed: {message}")
