"""What runs the requests of a moment as one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

__all__ = ["Batcher"]

T = TypeVar("T")


class Batcher(Protocol):
    """Gathers the model runs of concurrent requests into calls of `do_run_batch`."""

    async def submit(
        self, before: Callable[[], object], after: Callable[[object], T], *, is_alike: bool = False
    ) -> T:
        """Run `before()`, the model on its result as part of a batch, and `after(output)`.

        Say `is_alike` of an item that takes no longer than others of which that was said, and
        whose input was as large.
        """

    def close(self) -> None:
        """Stop; what still waits is cancelled."""
