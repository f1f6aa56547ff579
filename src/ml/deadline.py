"""How much time the request has that this task works for."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar

__all__ = ["seconds_left", "set_deadline"]

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def set_deadline(seconds: float) -> None:
    """Say that the current task, and what it starts, has so many seconds from now on."""
    _deadline.set(time.monotonic() + seconds)


def seconds_left() -> float:
    """Return the seconds until the deadline, infinity if there is none."""
    return _deadline.get() - time.monotonic()
