"""What is known of the caller that the current task works for: its time, and what it can take.

A service says it once for each request; what runs for the request asks, however deep it is and in
whichever thread. A script that says nothing has no deadline, takes no job and does take a proof.

An `async` hook is cancelled as usual. A plain hook runs in a thread, which Python cannot stop, so
a long one asks now and then:

    def do_run_model(self, prompt):
        while not is_cancelled():
            ...
"""

from __future__ import annotations

import math
import threading
import time
from contextvars import ContextVar

__all__ = [
    "is_cancelled",
    "renew_deadline",
    "seconds_left",
    "set_deadline",
    "set_takes",
    "takes_jobs",
    "takes_proof",
    "watch",
]

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_patience: ContextVar[float | None] = ContextVar("patience", default=None)
_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)
_takes_jobs: ContextVar[bool] = ContextVar("takes_jobs", default=False)
_takes_proof: ContextVar[bool] = ContextVar("takes_proof", default=True)


def set_deadline(seconds: float, *, spent_seconds: float = 0.0) -> None:
    """Say that the current task, and what it starts, has so many seconds, some of them spent."""
    _deadline.set(time.monotonic() + seconds - spent_seconds)
    _patience.set(seconds)


def renew_deadline() -> float | None:
    """Begin the time anew, for the next piece of a stream; returns its seconds, if it has any."""
    seconds = _patience.get()
    if seconds is not None:
        set_deadline(seconds)
    return seconds


def seconds_left() -> float:
    """Return the seconds until the deadline, infinity if there is none."""
    return _deadline.get() - time.monotonic()


def watch(flag: threading.Event) -> None:
    """Say which flag is set once nobody waits for the current task any more."""
    _cancelled.set(flag)


def is_cancelled() -> bool:
    """Return whether the caller of this request went away or its deadline passed."""
    flag = _cancelled.get()
    return flag is not None and flag.is_set()


def set_takes(*, jobs: bool, proof: bool) -> None:
    """Say what the answer to the caller of the current task may hold."""
    _takes_jobs.set(jobs)
    _takes_proof.set(proof)


def takes_jobs() -> bool:
    """Return whether the caller can be answered with a job in place of the output."""
    return _takes_jobs.get()


def takes_proof() -> bool:
    """Return whether the answer has a place for a proof; where not, making one is wasted."""
    return _takes_proof.get()
