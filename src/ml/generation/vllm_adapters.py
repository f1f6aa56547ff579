"""The adapters for a model of vLLM, which loads them itself."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput
from ml.generation.adapter_leases import AdapterLeases, Lease, Put
from ml.generation.lora_file import LoraFile
from ml.generation.vllm_process import VLLMProcess

__all__ = ["VLLMAdapters"]

log = logging.getLogger(__name__)


class VLLMAdapters(AdapterLeases):
    """The LoRA adapters in the sub-folders of `root`, which a `process` of vLLM's runs.

    At most `max_adapters` are loaded, and they have at most `max_rank`.
    """

    def __init__(
        self, process: VLLMProcess, root: Path, *, max_adapters: int, max_rank: int
    ) -> None:
        super().__init__(root, slots=max_adapters, read=self._read_lora)
        self._process = process
        self._max_rank = max_rank
        #: vLLM's own requests for adapters, by slot.
        self._requests: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def request_of(self, lease: Lease) -> Any:
        """Return vLLM's `LoRARequest` for an adapter."""
        return self._requests[lease.slot]

    def _read_lora(self, file: LoraFile) -> Put:
        from vllm.lora.request import LoRARequest

        began = time.monotonic()
        file.require_servable(self._max_rank)
        number = next(self._numbers)
        # Another number and name each time: vLLM's cache of prompts goes by them.
        request = LoRARequest(f"{file.name}#{number}", number, str(file.folder))

        def put(slot: int) -> None:
            before = self._requests.pop(slot, None)
            self._process.run(self._add(file, request, before)).result()
            self._requests[slot] = request
            seconds = time.monotonic() - began
            log.info("adapter %s loaded: slot %d, %.2f s", file.name, slot, seconds)

        return put

    async def _add(self, file: LoraFile, request: Any, before: Any) -> None:
        llm = await self._process.engine()
        if before is not None:
            await llm.remove_lora(before.lora_int_id)
        try:
            await llm.add_lora(request)
        except Exception as error:  # of whichever kind; it tells of the cause in words
            reason = str(error).replace(str(file.folder), file.name)
            raise InvalidInput(f"adapter {file.name!r}: vLLM cannot serve it: {reason}") from error
