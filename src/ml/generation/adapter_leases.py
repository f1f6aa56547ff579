"""The adapters in a folder, loaded when a request names one and kept while others do not need room.

A request holds a lease on its adapter, and so does the engine until its thread is done with the
request: what is leased stays where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ml.errors import Overloaded
from ml.generation.adapter_folder import AdapterFolder, AdapterSource
from ml.generation.lora_file import LoraFile
from ml.generation.request import ModelNotFound

__all__ = ["AdapterLeases", "AdapterState", "Lease"]

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

    def __init__(self, adapters: AdapterLeases, loaded: _Loaded) -> None:
        """Only `AdapterLeases` makes them."""
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


#: Puts an adapter that was read into a slot, in place of what was there.
Put = Callable[[int], None]


class AdapterLeases:
    """The LoRA adapters of peft in the sub-folders of `root`, of which `slots` may be loaded.

    `read` reads an adapter and returns what puts it into a slot, one adapter at a time; it raises
    `InvalidInput` for one that cannot be served. The adapter whose last use is longest ago makes
    room. All methods may be called from any thread. Raises `ConfigurationError` if there is no
    such folder.
    """

    def __init__(self, root: Path, *, slots: int, read: Callable[[LoraFile], Put]) -> None:
        self._folder = AdapterFolder(root)
        self._slots = slots
        self._read = read
        #: By name; of those without a lease the one whose last use is longest ago comes first.
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.RLock()
        self._loading = threading.Lock()

    @property
    def source(self) -> AdapterSource | None:
        """Where adapters come from, if the folder has copies of them."""
        return self._folder.source

    @source.setter
    def source(self, source: AdapterSource) -> None:
        self._folder.source = source

    def available(self) -> list[AdapterState]:
        """Return the adapters in the folder and those that are loaded, sorted by name."""
        found = self._folder.names()
        with self._lock:
            leases = {name: loaded.leases for name, loaded in self._loaded.items()}
        return [
            AdapterState(name, name in leases, leases.get(name, 0) > 0)
            for name in sorted(found | leases.keys())
        ]

    def loaded(self) -> list[str]:
        """Return the names of those that are loaded."""
        with self._lock:
            return list(self._loaded)

    def room(self) -> int:
        """Return how many more could be loaded without dropping one."""
        return self._slots - len(self._loaded)

    def is_loaded(self, name: str) -> bool:
        """Return whether an adapter is loaded; its files may have changed since."""
        return name in self._loaded

    @property
    def folder(self) -> AdapterFolder:
        """Where they lie."""
        return self._folder

    def add(self, name: str, made: Path, *, replaces: bool) -> None:
        """Take an adapter into the folder, as `AdapterFolder.add` does, if it can be served.

        Raises `InvalidInput` for one that cannot, and `AdapterTaken`.
        """
        self._read(LoraFile(name, made))
        self._folder.add(name, made, replaces=replaces)

    def is_known(self, name: str) -> bool:
        """Return whether the folder has a sub-folder of this name."""
        try:
            self._folder.find(name)
        except ModelNotFound:
            return False
        return True

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

    # --- loading ------------------------------------------------------------------------------

    def _take(self, name: str, version: object) -> Lease | None:
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is None or (loaded.version != version and not loaded.leases):
                return None
            return self._lease(loaded)

    def _load(self, file: LoraFile) -> Lease:
        self._free_slot(file.name)  # before the work of reading: there is one, or none
        version = file.version()
        put = self._read(file)
        with self._lock:
            old = self._loaded.get(file.name)
            if old is not None and old.leases:
                return self._lease(old)
            slot = self._free_slot(file.name)
            self._evict(slot)
        # Nobody knows of the slot now: one thread loads at a time.
        put(slot)
        with self._lock:
            loaded = self._loaded[file.name] = _Loaded(file.name, slot, version)
            return self._lease(loaded)

    def _free_slot(self, name: str) -> int:
        """Return the slot for an adapter, which may be another's. Raises `Overloaded` without."""
        with self._lock:
            if name in self._loaded:
                return self._loaded[name].slot
            unused = set(range(self._slots)) - {one.slot for one in self._loaded.values()}
            idle = [one.slot for one in self._loaded.values() if not one.leases]
        for slot in (*sorted(unused), *idle):
            return slot
        raise Overloaded(
            f"adapter {name!r} has no room: all {self._slots} that are loaded are in use",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )

    def _evict(self, slot: int) -> None:
        for loaded in list(self._loaded.values()):
            if loaded.slot == slot:
                del self._loaded[loaded.name]

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
