"""What a handler answers, before it is bytes on a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import orjson

from ml.errors import ServiceError, Unauthorized

__all__ = [
    "JSON",
    "STREAM_HEADERS",
    "TEXT",
    "ErrorForm",
    "Reply",
    "error_headers",
    "error_reply",
    "json_reply",
]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
#: Keep proxies from storing a stream, or from holding it back until it is whole.
STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@dataclass(slots=True)
class Reply:
    """A status with either a whole body or pieces of one that are sent as they are made."""

    status: int
    body: bytes | AsyncIterator[bytes]
    content_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


#: Writes a failure as the clients of a protocol read it.
ErrorForm = Callable[[ServiceError], Reply]


def json_reply(
    value: object, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> Reply:
    """Return plain data as JSON."""
    return Reply(status, orjson.dumps(value), headers=headers or [])


def error_reply(error: ServiceError) -> Reply:
    """Return the one error form of every service."""
    return json_reply(error.body(), error.status, error_headers(error))


def error_headers(error: ServiceError) -> list[tuple[bytes, bytes]]:
    """Return the headers that belong to a failure."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
