"""What a handler answers, before it is bytes on a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson

from ml.errors import ServiceError, Unauthorized

__all__ = ["Reply", "error_reply"]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"


@dataclass(slots=True)
class Reply:
    """A status with either a whole body or pieces of one that are sent as they are made."""

    status: int
    body: bytes | AsyncIterator[bytes]
    content_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def error_reply(error: ServiceError) -> Reply:
    """Return the one error form of every service."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    return Reply(error.status, orjson.dumps(error.body()), headers=headers)
