"""How many requests a worker takes on at once."""

from __future__ import annotations

from ml.errors import Overloaded

__all__ = ["Admission"]


class Admission:
    """Counts the requests in flight and refuses those beyond the limit.

    It is asked before a body is read, so that a refusal costs little under overload, and a place
    is taken once the body is here, so that nobody holds one by sending slowly.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0

    def require_place(self) -> None:
        """Raise `Overloaded` when all places are taken."""
        if self.in_flight >= self.limit:
            raise Overloaded(
                f"All {self.limit} places are taken; try again shortly.", retry_after_seconds=1
            )

    def enter(self) -> None:
        """Take a place; raises `Overloaded` when there is none. `leave` gives it back."""
        self.require_place()
        self.in_flight += 1

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1

    def count(self) -> int:
        """Return the number of requests in flight."""
        return self.in_flight

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.in_flight >= self.limit
