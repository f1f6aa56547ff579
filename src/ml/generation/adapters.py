"""The adapters in a folder, loaded when a request names one and kept while others do not need room.

A request holds a lease on its adapter, and so does the engine until its thread is done with the
request: what is leased stays where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ml.errors import Overloaded
from ml.generation.adapter_folder import AdapterFolder
from ml.generation.lora_file import Lora, LoraFile
from ml.generation.lora_stack import LoraStack

__all__ = ["AdapterState", "Adapters", "Lease"]

log = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class AdapterState:
    """An adapter in the folder, or one still loaded whose files are gone."""

    name: str
    loaded: bool
    in_use: bool


@dataclass(eq=False, slots=True)
class _Loaded:
    name: str
    slot: int
    version: object
    leases: int = 0
    unwanted: bool = False  # to be dropped when the last lease ends


class Lease:
    """The right to a loaded adapter's slot, until it is closed; a context manager."""

    def __init__(self, adapters: Adapters, loaded: _Loaded) -> None:
        """Only `Adapters` makes leases."""
        self._adapters = adapters
        self._loaded = loaded
        self._closed = False

    @property
    def slot(self) -> int:
        """Where the adapter is in the stack."""
        return self._loaded.slot

    @property
    def identity(self) -> object:
        """An object of its own for each time that an adapter is loaded."""
        return self._loaded

    def share(self) -> Lease:
        """Return another lease on the same adapter. This one must not be closed yet."""
        if self._closed:
            raise ValueError("the lease is closed")
        return self._adapters._lease(self._loaded)

    def close(self) -> None:
        """Give it back; again is allowed."""
        if not self._closed:
            self._closed = True
            self._adapters._give_back(self._loaded)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Adapters:
    """The LoRA adapters of peft in the sub-folders of `root`, for the requests of one `model`.

    At most `max_adapters` are loaded; the one whose last use is longest ago makes room. Adapters
    have at most `max_rank`. All methods may be called from any thread, `select` only from the one
    that runs the model. Raises `ConfigurationError` if there is no such folder.
    """

    def __init__(
        self, model: Any, root: Path, *, max_adapters: int = 8, max_rank: int = 64
    ) -> None:
        self._folder = AdapterFolder(root)
        self._max_rank = max_rank
        self._stack = LoraStack(model, max_adapters)
        #: By name; of those without a lease the one whose last use is longest ago comes first.
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.RLock()
        self._loading = threading.Lock()

    def available(self) -> list[AdapterState]:
        """Return the adapters in the folder and those that are loaded, sorted by name."""
        found = self._folder.names()
        with self._lock:
            leases = {name: loaded.leases for name, loaded in self._loaded.items()}
        return [
            AdapterState(name, name in leases, leases.get(name, 0) > 0)
            for name in sorted(found | leases.keys())
        ]

    def acquire(self, name: str) -> Lease:
        """Return a lease on an adapter, which is loaded if need be: this reads its files.

        One whose files have changed is loaded again, unless it is in use. Raises `NotFound` for
        an unknown name, `InvalidInput` for an adapter that cannot be served with this model, and
        `Overloaded` when all that are loaded are in use.
        """
        file = self._folder.find(name)
        version = file.version()
        lease = self._take(name, version)
        if lease is not None:
            return lease
        with self._loading:  # one at a time: who waited here may find it loaded
            return self._take(name, version) or self._load(file)

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Lease]:
        """Hold a lease while a block of a coroutine runs; errors as of `acquire`."""
        loading = asyncio.get_running_loop().run_in_executor(None, self.acquire, name)
        try:
            lease = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_close_result)  # the thread goes on
            raise
        with lease:
            yield lease

    def unload(self, name: str) -> bool:
        """Free an adapter's slot and return True, or False if that waits for its last lease.

        Raises `NotFound` for an unknown name; for one that is not loaded there is nothing to do.
        """
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is not None:
                loaded.unwanted = True
                return self._drop_unwanted(loaded)
        self._folder.find(name)
        return True

    def select(self, leases: Sequence[Lease | None]) -> None:
        """Say whose adapter each row of the model's next forward pass uses, if any."""
        self._stack.select([None if lease is None else lease.slot for lease in leases])

    # --- loading ------------------------------------------------------------------------------

    def _take(self, name: str, version: object) -> Lease | None:
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is None or (loaded.version != version and not loaded.leases):
                return None
            return self._lease(loaded)

    def _load(self, file: LoraFile) -> Lease:
        began = time.monotonic()
        self._free_slot(file.name)  # before the work of reading: there is one, or none
        version = file.version()
        lora = file.read(self._stack.features, max_rank=self._max_rank, dtype=self._stack.dtype)
        with self._lock:
            old = self._loaded.get(file.name)
            if old is not None and old.leases:
                return self._lease(old)
            slot = self._free_slot(file.name)
            self._evict(slot)
        # Nobody knows of the slot now: one thread loads at a time.
        self._stack.put(slot, lora)
        self._log_load(file.name, slot, lora, time.monotonic() - began)
        with self._lock:
            loaded = self._loaded[file.name] = _Loaded(file.name, slot, version)
            return self._lease(loaded)

    def _free_slot(self, name: str) -> int:
        """Return the slot for an adapter, which may be another's. Raises `Overloaded` without."""
        with self._lock:
            if name in self._loaded:
                return self._loaded[name].slot
            unused = set(range(self._stack.slots)) - {one.slot for one in self._loaded.values()}
            idle = [one.slot for one in self._loaded.values() if not one.leases]
        for slot in (*sorted(unused), *idle):
            return slot
        raise Overloaded(
            f"adapter {name!r} has no room: all {self._stack.slots} that are loaded are in use",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )

    def _evict(self, slot: int) -> None:
        for loaded in list(self._loaded.values()):
            if loaded.slot == slot:
                del self._loaded[loaded.name]

    def _log_load(self, name: str, slot: int, lora: Lora, seconds: float) -> None:
        log.info(
            "adapter %s loaded: rank %d, %d layers, slot %d, %.2f s",
            name,
            lora.rank,
            len(lora.pairs),
            slot,
            seconds,
        )

    # --- leases -------------------------------------------------------------------------------

    def _lease(self, loaded: _Loaded) -> Lease:
        with self._lock:
            loaded.leases += 1
            loaded.unwanted = False
        return Lease(self, loaded)

    def _give_back(self, loaded: _Loaded) -> None:
        with self._lock:
            loaded.leases -= 1
            self._loaded[loaded.name] = self._loaded.pop(loaded.name)  # the last to be evicted
            self._drop_unwanted(loaded)

    def _drop_unwanted(self, loaded: _Loaded) -> bool:
        if loaded.unwanted and not loaded.leases:
            del self._loaded[loaded.name]
            return True
        return False


def _close_result(loading: asyncio.Future[Lease]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
