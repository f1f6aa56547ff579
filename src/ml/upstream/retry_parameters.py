"""How a server that is busy or absent is asked again."""

from __future__ import annotations

import random

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RetryParameters"]


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
