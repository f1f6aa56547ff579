"""What goes wrong between us and a text generation server, as errors of ours."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx
from huggingface_hub.errors import (
    GenerationError,
    HfHubHTTPError,
    IncompleteGenerationError,
    InferenceTimeoutError,
    OverloadedError,
    TextGenerationError,
    ValidationError,
)

from ml.errors import (
    DeadlineExceeded,
    GenerationFailed,
    Overloaded,
    ServiceError,
    TooManyRequests,
    UpstreamError,
    UpstreamRefused,
)

__all__ = ["FAILURES", "as_service_error", "is_transient", "lacks_chat", "retry_after_seconds"]

#: What the client raises.
FAILURES = (TextGenerationError, HfHubHTTPError, InferenceTimeoutError, httpx.HTTPError)

_TRANSIENT = frozenset({429, 502, 503, 504})


def is_transient(error: BaseException | None) -> bool:
    """Return whether the same request may succeed a little later.

    That is overload, a rate limit, a shard or server that is not ready, a time-out, or a broken
    connection; never a refusal of the request itself.
    """
    if isinstance(error, OverloadedError | httpx.TransportError | InferenceTimeoutError):
        return not isinstance(error, httpx.UnsupportedProtocol)
    return _status(error) in _TRANSIENT


def retry_after_seconds(error: BaseException | None) -> int | None:
    """Return the seconds of the server's `Retry-After`, if it gave one in seconds."""
    response = _response(error)
    value = response.headers.get("retry-after", "") if response is not None else ""
    return int(value) if value.isascii() and value.isdigit() else None


def lacks_chat(error: Exception) -> bool:
    """Return whether a server has no chat route, or its model no chat template."""
    document, status = _json(_response(error)), _status(error)
    if status == 404:  # unless the route itself says that it has no such model
        refusal = document.get("error")
        return not isinstance(refusal, dict) or refusal.get("code") != "model_not_found"
    return status == 405 or (status == 422 and document.get("error_type") == "template_error")


def as_service_error(error: Exception) -> ServiceError:
    """Return the error of ours for what the client raised, with the server's own words."""
    status, message = _status(error), _message(error)
    if isinstance(error, InferenceTimeoutError) or _is_timeout(error) or status == 504:
        return DeadlineExceeded("The model server behind this service took too long.")
    if isinstance(error, httpx.TransportError):
        if isinstance(error.__cause__, aiohttp.ClientConnectorError):
            return UpstreamError("The model server behind this service cannot be reached.")
        return UpstreamError("The model server behind this service broke the connection off.")
    if isinstance(error, OverloadedError) or status in (429, 503):
        kind = Overloaded if status == 503 else TooManyRequests
        text = f"The model server is at its limit: {message}"
        return kind(text, retry_after_seconds=retry_after_seconds(error))
    if isinstance(error, ValidationError) or status in (400, 413, 422):
        return UpstreamRefused(f"The model server refuses the request: {message}")
    if isinstance(error, GenerationError | IncompleteGenerationError) or status == 424:
        return GenerationFailed(f"The model server failed to generate: {message}")
    if status in (401, 403):
        return UpstreamError("The model server refuses this service's token.")
    return UpstreamError(f"The model server failed: {message}")


def _is_timeout(error: Exception) -> bool:
    """Return whether the server was too slow; httpx-aiohttp calls any lost connection a timeout."""
    return isinstance(error, httpx.TimeoutException) and isinstance(error.__cause__, TimeoutError)


def _response(error: BaseException | None) -> httpx.Response | None:
    """Return the HTTP reply behind an error; text generation errors have it as their cause."""
    for candidate in (error, getattr(error, "__cause__", None)):
        response = getattr(candidate, "response", None)
        if isinstance(response, httpx.Response):
            return response
    return None


def _status(error: BaseException | None) -> int | None:
    response = _response(error)
    return None if response is None else response.status_code


def _message(error: Exception) -> str:
    """Return the server's message and error type, never a proxy's page."""
    document = _json(_response(error))
    message, kind = document.get("error"), document.get("error_type")
    if isinstance(document.get("error"), dict):  # OpenAI's form
        message, kind = document["error"].get("message"), document["error"].get("type")
    if message is None and isinstance(error, TextGenerationError):
        message = str(error)
    if message is None:
        status = _status(error)
        return f"HTTP {status}" if status else type(error).__name__
    return f"{message} ({kind})" if kind else str(message)


def _json(response: httpx.Response | None) -> dict[str, Any]:
    try:
        document = response.json() if response is not None else {}
    except (ValueError, httpx.ResponseNotRead):
        return {}
    return document if isinstance(document, dict) else {}
