"""Trying again what a busy or absent server refused."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, Field
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from ml.caller import seconds_left
from ml.upstream.failures import is_transient, retry_after_seconds

__all__ = ["RetryParameters", "with_retries"]

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RetryParameters(BaseModel):
    """How often to try, and how long to wait before each further try.

    The wait before the n-th further try is `delay * backoff ** (n - 1)` seconds plus `jitter`, a
    number or the range of a random one, and at most `max_delay`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tries: int = Field(default=3, ge=1, le=100)
    delay: float = Field(default=3, ge=0)
    max_delay: float | None = Field(default=None, ge=0)
    backoff: float = Field(default=2, ge=0)
    jitter: float | tuple[float, float] = (0.5, 1.5)

    def wait_seconds(self, failures: int) -> float:
        """Return how long to wait after so many failed tries."""
        jitter = self.jitter if isinstance(self.jitter, float) else random.uniform(*self.jitter)
        wait: float = self.delay * self.backoff ** (failures - 1) + jitter
        return max(0.0, wait if self.max_delay is None else min(wait, self.max_delay))


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
