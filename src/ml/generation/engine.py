"""What every engine does: token ids in, tokens out, for many requests at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Protocol

from ml.generation.request import SamplingParameters, Step

if TYPE_CHECKING:
    from ml.generation.adapters import Lease

__all__ = ["Engine"]


class Engine(Protocol):
    """Makes tokens for many requests at once."""

    #: Tokens that a prompt and its answer may have together.
    max_length: int

    def generate(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        adapter: Lease | None = None,
    ) -> AsyncGenerator[Step, None]:
        """Yield token by token; the last step says how it ended. Closing it ends the request.

        `prompt` holds at least one and less than `max_length` token ids. `adapter` is a lease that
        the engine shares until it is done with the request. Raises `NotReady` once it is closed.
        """

    def close(self) -> None:
        """Stop after the current step; what runs or waits ends as cancelled."""
