"""One request of a running batch, from its arrival to its last step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ml.generation.adapter_leases import Lease
from ml.generation.engine import EngineRequest
from ml.generation.request import FinishReason, SamplingParameters, Token
from ml.generation.rows import Row
from ml.generation.sampling import Sampler

__all__ = ["RunningRequest"]


@dataclass(eq=False, slots=True, kw_only=True)
class RunningRequest(EngineRequest):
    """A request that waits, joins, or runs."""

    parameters: SamplingParameters
    sampler: Sampler
    adapter: Lease | None = None
    cancelled: bool = False
    last: int = 0  # the newest token, which is not in the cache yet
    row: Row = field(default_factory=Row)  # what of it is in the cache

    @property
    def length(self) -> int:
        """How many of its tokens are in the cache."""
        return len(self.row.tokens)

    @property
    def loaded_adapter(self) -> object:
        """What its keys and values depend on, beside the tokens."""
        return self.adapter.identity if self.adapter is not None else None

    def accept(
        self, token: Token, end_tokens: Collection[int], max_length: int
    ) -> FinishReason | None:
        """Take its next token; returns why that is its last one, if it is."""
        self.last = token.id
        self.made += 1
        ends = token.id in end_tokens and not self.parameters.ignore_eos
        if ends or self.sampler.is_complete:
            return FinishReason.STOP
        is_full = self.length + 1 >= max_length
        if is_full or self.made >= self.parameters.max_new_tokens:
            return FinishReason.LENGTH
        return None

    def finish(
        self,
        reason: FinishReason,
        *,
        token: Token | None = None,
        error: Exception | None = None,
    ) -> None:
        """Give the adapter back, and tell the reader how it ended."""
        if self.adapter is not None:
            self.adapter.close()
        EngineRequest.finish(self, reason, token=token, error=error)
