"""The key-value cache of a running batch: one row of preallocated memory per request.

Rows `[0, n)` are in use. A request that ends gives its row to the last one, so that a step always
runs on a contiguous block and nothing is copied but that one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

__all__ = ["SlotCache", "Span"]


@dataclass(slots=True)
class Span:
    """What the next forward pass writes and reads.

    rows: the block of rows.
    starts: where each row's new tokens go; one position for all rows unless it is a decode step.
    length: how many positions attention reads.
    """

    rows: slice
    starts: torch.Tensor | int
    length: int


class _Layer(CacheLayerMixin):
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        _, heads, _, width = key_states.shape
        shape = (self._cache.slots, heads, self._cache.max_length, width)
        self.keys = key_states.new_zeros(shape)
        self.values = value_states.new_zeros((*shape[:3], value_states.shape[-1]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span = self._cache.span
        keys, values = self.keys[span.rows], self.values[span.rows]
        if isinstance(span.starts, int):
            end = span.starts + key_states.shape[2]
            keys[:, :, span.starts : end] = key_states
            values[:, :, span.starts : end] = value_states
        else:
            index = torch.arange(len(span.starts), device=keys.device)
            keys[index, :, span.starts] = key_states[:, :, 0]
            values[index, :, span.starts] = value_states[:, :, 0]
        return keys[:, :, : span.length], values[:, :, : span.length]

    def move(self, source: int, target: int, length: int) -> None:
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.span.length, 0

    def get_seq_length(self) -> int:
        return self._cache.span.length

    def get_max_length(self) -> int:
        return self._cache.max_length


class SlotCache(Cache):
    """A cache of `slots` rows of `max_length` positions for a model with `layers` layers."""

    def __init__(self, layers: int, slots: int, max_length: int) -> None:
        self.slots = slots
        self.max_length = max_length
        self.span = Span(slice(0, 0), 0, 0)
        self._rows = [_Layer(self) for _ in range(layers)]
        super().__init__(layers=list(self._rows))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over another."""
        for layer in self._rows:
            layer.move(source, target, length)
