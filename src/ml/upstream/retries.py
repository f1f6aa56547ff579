"""Trying again what a busy or absent server refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

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

    def wait(state: RetryCallState) -> float:
        asked = retry_after_seconds(_error(state)) or 0
        return max(float(asked), parameters.wait_seconds(state.attempt_number))

    def stop(state: RetryCallState) -> bool:
        is_last = state.attempt_number >= parameters.tries
        return is_last or state.upcoming_sleep >= seconds_left()

    def note(state: RetryCallState) -> None:
        log.warning(
            "upstream_retry",
            attempt=state.attempt_number,
            wait_seconds=round(state.upcoming_sleep, 3),
            error=type(_error(state)).__name__,
        )

    retrying = AsyncRetrying(
        stop=stop,
        wait=wait,
        retry=retry_if_exception(is_transient),
        before_sleep=note,
        reraise=True,
    )
    return await retrying(call)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
