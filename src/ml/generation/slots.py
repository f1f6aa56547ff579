"""The key-value cache of a running batch: one row of preallocated memory per request.

A step runs on one block of rows, without copying them; see `ml.generation.rows`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

__all__ = ["SlotCache", "Span"]


@dataclass(slots=True)
class Span:
    """What the next forward pass writes and reads.

    rows: the block of rows.
    starts: where each row's new tokens go, as a tensor for a decode step of one token each.
    counts: how many of each row's tokens, the last ones, are new; those before them are padding.
    length: how many positions attention reads.
    """

    rows: slice
    starts: torch.Tensor | list[int]
    counts: list[int]
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
        self.keys = _zeros(shape, key_states)
        self.values = _zeros((*shape[:3], value_states.shape[-1]), value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span = self._cache.span
        keys, values = self.keys[span.rows], self.values[span.rows]
        if isinstance(span.starts, torch.Tensor):
            index = torch.arange(len(span.starts), device=keys.device)
            keys[index, :, span.starts] = key_states[:, :, 0]
            values[index, :, span.starts] = value_states[:, :, 0]
        else:
            for row, (start, count) in enumerate(zip(span.starts, span.counts, strict=True)):
                keys[row, :, start : start + count] = key_states[row, :, -count:]
                values[row, :, start : start + count] = value_states[row, :, -count:]
        return keys[:, :, : span.length], values[:, :, : span.length]

    def copy(self, source: int, target: int, length: int) -> None:
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def swap(self, first: int, second: int, length: int) -> None:
        order, pair = [second, first], [first, second]
        self.keys[pair, :, :length] = self.keys[order, :, :length]
        self.values[pair, :, :length] = self.values[order, :, :length]

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
        self.span = Span(slice(0, 0), [], [], 0)
        self._rows = [_Layer(self) for _ in range(layers)]
        super().__init__(layers=list(self._rows))

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over another."""
        for layer in self._rows:
            layer.copy(source, target, length)

    def swap(self, first: int, second: int, length: int) -> None:
        """Exchange the first `length` positions of two rows."""
        for layer in self._rows:
            layer.swap(first, second, length)


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Return zeros that take no memory on the CPU until they are written to."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    memory = np.zeros(math.prod(shape) * like.element_size(), np.uint8)
    return torch.from_numpy(memory).view(like.dtype).reshape(shape)
