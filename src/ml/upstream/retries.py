"""Trying again what a busy or absent server refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from ml.caller import seconds_left
from ml.upstream.failures import is_transient, retry_after_seconds
from ml.upstream.retry_parameters import RetryParameters

__all__ = ["with_retries"]

T = TypeVar("T")
log = structlog.get_logger(__name__)


async def with_retries(call: Callable[[], Awaitable[T]], parameters: RetryParameters) -> T:
    """Return `await call()`, tried again after failures that pass.

    The server's `Retry-After` is honoured. Nothing is tried whose wait would end behind the
    request's deadline: the last failure is raised instead, while somebody still listens.
    """
    for attempt in itertools.count(1):
        try:
            return await call()
        except Exception as error:
            if not is_transient(error) or attempt >= parameters.tries:
                raise
            wait = max(retry_after_seconds(error) or 0.0, parameters.wait_seconds(attempt))
            if wait >= seconds_left():
                raise
            log.warning(
                "upstream_retry",
                attempt=attempt,
                wait_seconds=round(wait, 3),
                error=type(error).__name__,
            )
        await asyncio.sleep(wait)
    raise AssertionError("unreachable")
