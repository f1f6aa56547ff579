"""The adapters for a model of transformers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.generation.adapter_leases import AdapterLeases, Lease, Put
from ml.generation.lora_file import LoraFile
from ml.generation.lora_stack import LoraStack

__all__ = ["Adapters"]

log = logging.getLogger(__name__)


class Adapters(AdapterLeases):
    """The LoRA adapters in the sub-folders of `root`, for the requests of one `model`.

    At most `max_adapters` are loaded, and they have at most `max_rank`. `select` may only be called
    from the thread that runs the model.
    """

    def __init__(
        self, model: Any, root: Path, *, max_adapters: int = 8, max_rank: int = 64
    ) -> None:
        super().__init__(root, slots=max_adapters, read=self._read_lora)
        self._max_rank = max_rank
        self._stack = LoraStack(model, max_adapters)

    def select(self, leases: Sequence[Lease | None]) -> None:
        """Say whose adapter each row of the model's next forward pass uses, if any."""
        self._stack.select([None if lease is None else lease.slot for lease in leases])

    def _read_lora(self, file: LoraFile) -> Put:
        began = time.monotonic()
        stack = self._stack
        lora = file.read(stack.features, max_rank=self._max_rank, dtype=stack.dtype)

        def put(slot: int) -> None:
            stack.put(slot, lora)
            log.info(
                "adapter %s loaded: rank %d, %d layers, slot %d, %.2f s",
                file.name,
                lora.rank,
                len(lora.pairs),
                slot,
                time.monotonic() - began,
            )

        return put
