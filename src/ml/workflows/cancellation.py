"""How a plain hook learns that nobody waits for its result any more.

An `async` hook is cancelled as usual. A plain hook runs in a thread, which Python cannot stop, so
a long one asks now and then:

    def do_run_model(self, prompt):
        while not is_cancelled():
            ...
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

__all__ = ["cancellation_flag", "is_cancelled"]

#: The flag of the request that the current context works for.
cancellation_flag: ContextVar[threading.Event | None] = ContextVar(
    "cancellation_flag", default=None
)


def is_cancelled() -> bool:
    """Return whether the caller of this request went away or its deadline passed."""
    flag = cancellation_flag.get()
    return flag is not None and flag.is_set()
