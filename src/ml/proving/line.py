"""The proofs that wait for one worker, or are in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ml.errors import DeadlineExceeded

__all__ = ["DoesNotFit", "Line"]


class DoesNotFit(DeadlineExceeded):
    """A proof was not begun, because it is expected to end after its deadline."""


class Line:
    """Knows how long the proofs of one worker are expected to take, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: list[float] = []

    @contextmanager
    def place(self, expected_seconds: float, seconds: float) -> Iterator[None]:
        """Hold a place for a proof that has so many seconds, those before it included.

        Raises `DoesNotFit` if it is expected to take longer.
        """
        with self._lock:
            total = sum(self._places, start=expected_seconds)
            if total > seconds:
                before = " after those before it" if self._places else ""
                raise DoesNotFit(
                    f"The proof is expected to end in {total:.2g} s{before}; this request has "
                    f"{max(0.0, seconds):.2g} s."
                )
            self._places.append(expected_seconds)
        try:
            yield
        finally:
            with self._lock:
                self._places.remove(expected_seconds)
