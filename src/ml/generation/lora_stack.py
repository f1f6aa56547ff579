"""Many LoRA adapters on one model: each row of a batch gets what its own adapter adds.

Every wrapped layer keeps the A's of all slots in one tensor and the B's in another. A step
multiplies its rows with all the A's of the slots in use at once, blanks what is not a row's own,
and multiplies that with the B's: two products for any number of adapters, and no weights copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from ml.generation.lora_file import Lora, Pair

__all__ = ["LoraStack"]


class _Choice:
    """Whose adapter the next forward pass applies.

    slots: the range that holds the slots of all rows; None when no row has an adapter.
    others: bool `(rows, 1, slots in the range, 1)`, what is not the row's own; None when all rows
        share one slot.
    """

    slots: slice | None = None
    others: torch.Tensor | None = None


class _LoraLinear(nn.Module):
    def __init__(
        self, base: nn.Module, features: tuple[int, int], choice: _Choice, pair: Pair
    ) -> None:
        super().__init__()
        self.base = base
        self.in_features, self.out_features = features
        #: A's `(slots, rank, in_features)` and B's `(slots, rank, out_features)`, as one attribute
        #: because they are replaced while a step may be reading them.
        self.pair = pair
        self._choice = choice

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Take and return `(rows, tokens, features)`."""
        output: torch.Tensor = self.base(inputs)
        slots = self._choice.slots
        if slots is None:
            return output
        a, b = (stacked[slots] for stacked in self.pair)
        inner = linear(inputs, a.flatten(0, 1))
        others = self._choice.others
        if others is not None:
            inner.view(*inner.shape[:-1], *a.shape[:2]).masked_fill_(others, 0)
        return output + inner @ b.flatten(0, 1)


class LoraStack:
    """The slots for adapters of a causal language model, whose linear layers it wraps.

    A layer is wrapped when the first adapter for it comes; layers of any class count as linear that
    have `in_features` and `out_features`. One thread runs the model and calls `select`; another
    may `put` an adapter into a slot that no row has. The model is changed in place.
    """

    def __init__(self, model: Any, slots: int) -> None:
        self.slots = slots
        self.dtype: torch.dtype = model.dtype
        self._device = model.device
        self._model = model
        self._choice = _Choice()
        self._wrapped: dict[str, _LoraLinear] = {}
        self.features = {
            name: (module.in_features, module.out_features)
            for name, module in model.named_modules()
            if isinstance(getattr(module, "in_features", None), int)
            and isinstance(getattr(module, "out_features", None), int)
        }

    def select(self, slots: Sequence[int | None]) -> None:
        """Say which slot each row of the next forward pass uses; None stands for the base model."""
        used = {slot for slot in slots if slot is not None}
        if not used:
            self._choice.slots = self._choice.others = None
            return
        first, end = min(used), max(used) + 1
        self._choice.slots = slice(first, end)
        if len(used) == 1 and None not in slots:
            self._choice.others = None
            return
        own = torch.tensor([-1 if slot is None else slot for slot in slots])[:, None]
        others = own != torch.arange(first, end)
        self._choice.others = others[:, None, :, None].to(self._device)

    def put(self, slot: int, lora: Lora) -> None:
        """Write an adapter, read for this model's `features` and `dtype`, over a slot."""
        for name, (a, _) in lora.pairs.items():
            self._make_room(name, len(a))
        for name, layer in self._wrapped.items():
            if name not in lora.pairs:
                for stacked in layer.pair:
                    stacked[slot] = 0
                continue
            for stacked, given in zip(layer.pair, lora.pairs[name], strict=True):
                stacked[slot, : len(given)] = given
                stacked[slot, len(given) :] = 0

    def _make_room(self, name: str, rank: int) -> None:
        features = self.features[name]
        layer = self._wrapped.get(name)
        if layer is None:
            base = self._model.get_submodule(name)
            layer = _LoraLinear(base, features, self._choice, self._zeros(rank, *features))
            parent, _, child = name.rpartition(".")
            setattr(self._model.get_submodule(parent), child, layer)
            self._wrapped[name] = layer
        has = layer.pair[0].shape[1]
        if has < rank:
            larger = self._zeros(rank, *features)
            for new, old in zip(larger, layer.pair, strict=True):
                new[:, :has] = old
            layer.pair = larger

    def _zeros(self, rank: int, inputs: int, outputs: int) -> Pair:
        return (
            torch.zeros(self.slots, rank, inputs, dtype=self.dtype, device=self._device),
            torch.zeros(self.slots, rank, outputs, dtype=self.dtype, device=self._device),
        )
