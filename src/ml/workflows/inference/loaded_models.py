"""Models that are loaded when a request names them, and leave when others need their room.

A request that waits for a model to be loaded holds its place in it already. Loads get room in the
order in which they were asked for; models that nobody asks at the moment leave first, the one whose
last use is longest ago before others. Where all are asked, one takes no new request until those
that it has are answered, and leaves then: who still wants it stands in line for a new load. So
whatever requests alternate between, all of them are answered.

All of this runs on the event loop; models are loaded, and closed, in threads of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from typing import Self

import structlog

from ml.errors import ConfigurationError, NotReady, OutOfMemory, Overloaded, ServiceError
from ml.extras import why_not_imported
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.batcher import Batcher

__all__ = ["LoadedModels", "ModelsObserver", "Prepare"]

log = structlog.get_logger(__name__)

_LOADS_AT_ONCE = 4
#: A load that failed is not tried again for so long, and twice as long each time that it fails
#: again: callers may ask many times a second, and others have to make room for each try.
_RETRY_SECONDS, _MOST_RETRY_SECONDS = 5, 60

#: Before the names of files: where these lie is this machine's own matter.
_FOLDERS = re.compile(r"(?<![\w./:])/(?:[^\s/:'\"]+/)+")

#: Makes a loaded model run as the service's requests do; the function counts those at work.
Prepare = Callable[[BaseClassicMLInferenceWorkflow, Callable[[], int]], Batcher | None]


class ModelsObserver:
    """Is told what happens to models; does nothing by itself."""

    def changed(self, count: int, size: int) -> None:
        """So many models are loaded or being loaded, and count with so many bytes."""

    def loaded(self, seconds: float) -> None:
        """A model was loaded in so long, once it had room."""

    def failed(self) -> None:
        """A model could not be loaded."""

    def evicted(self) -> None:
        """A model left for others."""


@dataclass(eq=False, slots=True)
class _Model:
    name: str
    loading: asyncio.Future[BaseClassicMLInferenceWorkflow]
    #: Once it is ready.
    workflow: BaseClassicMLInferenceWorkflow | None = None
    batcher: Batcher | None = None
    uses: int = 0
    size: int = 0
    has_room: bool = False


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a load failed, without the exception: its traceback would hold what was loaded."""

    kind: type[ServiceError]
    description: str
    retry_seconds: int
    until: float

    @classmethod
    def of(cls, name: str, error: Exception, before: _Failure | None) -> Self:
        if isinstance(error, ImportError):
            error = ConfigurationError(why_not_imported(error))
        known = isinstance(error, ConfigurationError | ServiceError)
        text = _FOLDERS.sub("", str(error)) if known else "see the log"
        reason = "; ".join(text.splitlines())
        if isinstance(error, MemoryError):
            reason = "it does not fit into the machine's memory"
        seconds = min(2 * before.retry_seconds, _MOST_RETRY_SECONDS) if before else _RETRY_SECONDS
        return cls(
            OutOfMemory if isinstance(error, MemoryError) else NotReady,
            f"model_id: {name!r} cannot be loaded: {reason}",
            seconds,
            time.monotonic() + seconds,
        )

    def refusal(self) -> ServiceError:
        seconds = math.ceil(self.until - time.monotonic())
        return self.kind(self.description, retry_after_seconds=max(1, seconds))


class _LoadFailed(Exception):
    def __init__(self, why: _Failure) -> None:
        super().__init__(why.description)
        self.why = why


class _NotWanted(Exception):
    """All who waited for a model have left."""


class LoadedModels:
    """The models of which at most `most_bytes` and `most_models` are loaded at a time.

    At most `most_waiting` requests wait for those that are not: the places of a service are not all
    theirs.
    """

    def __init__(
        self,
        new: Callable[[str], BaseClassicMLInferenceWorkflow],
        prepare: Prepare,
        observer: ModelsObserver,
        *,
        most_bytes: int | None,
        most_models: int | None,
        most_waiting: int | None = None,
    ) -> None:
        self._observer = observer
        self._new = new
        self._prepare = prepare
        self._most_bytes = most_bytes
        self._most_models = most_models
        self._most_waiting = most_waiting
        #: The one whose last use is longest ago comes first; those that leave are not among them.
        self._models: dict[str, _Model] = {}
        self._leaving: set[_Model] = set()
        self._failed: dict[str, _Failure] = {}
        self._count = self._bytes = self._waiting = 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_LOADS_AT_ONCE, "model-load")

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[BaseClassicMLInferenceWorkflow]:
        """Have a model loaded and keep it so.

        Raises `NotReady` that says why it cannot be, `OutOfMemory`, and `Overloaded` where too many
        wait.
        """
        model = self._models.pop(name, None) or self._begin(name)
        self._models[name] = model
        model.uses += 1
        try:
            yield model.workflow or await self._loaded(model)
        finally:
            model.uses -= 1
            if not model.uses:
                self._end_use(model)

    def workflow_of(self, name: str) -> BaseClassicMLInferenceWorkflow | None:
        """Return a model that is loaded, for what it tells of itself; else None."""
        return self._models[name].workflow if name in self._models else None

    def state(self) -> dict[str, object]:
        """Return the names of what is loaded and being loaded, and its bytes."""
        by_name = sorted(self._models.values(), key=lambda model: model.name)
        return {
            "loaded": [model.name for model in by_name if model.workflow is not None],
            "loading": [model.name for model in by_name if model.workflow is None],
            "bytes": self._bytes,
        }

    async def close(self) -> None:
        """Give all of them back; no request may be at work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in [*self._models.values(), *self._leaving]:
            if model.workflow is not None:
                await self._close(model)
        self._models.clear()
        self._observer.changed(0, 0)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- loading ------------------------------------------------------------------------------

    def _begin(self, name: str) -> _Model:
        failure = self._failed.get(name)
        if failure is not None and time.monotonic() < failure.until:
            raise failure.refusal()
        model = _Model(name, asyncio.get_running_loop().create_future())
        self._start(self._load(model))
        return model

    def _end_use(self, model: _Model) -> None:
        if model in self._leaving:
            self._start(self._leave(model))
        else:
            self._changed.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # Without what is known of the request that began it: its deadline is not theirs.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _loaded(self, model: _Model) -> BaseClassicMLInferenceWorkflow:
        if self._most_waiting is not None and self._waiting >= self._most_waiting:
            raise Overloaded(
                f"model_id: {model.name!r} is not loaded yet, and {self._waiting} requests wait "
                "for models already",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._waiting += 1
        try:
            return await asyncio.shield(model.loading)
        except _LoadFailed as failed:
            raise failed.why.refusal() from failed.__cause__
        finally:
            self._waiting -= 1

    async def _load(self, model: _Model) -> None:
        try:
            run = asyncio.get_running_loop().run_in_executor
            workflow = await run(self._threads, self._new, model.name)
            workflow.use(executor=self._threads)
            model.size = await workflow.in_thread(workflow.model_bytes)
            await self._make_room(model)
            started = time.perf_counter()
            await _set_up(workflow)
            model.batcher = self._prepare(workflow, lambda: model.uses)
        except _NotWanted:
            self._end_load(model)
            return
        except (Exception, SystemExit) as error:
            self._fail(model, error if isinstance(error, Exception) else RuntimeError(repr(error)))
            return
        self._failed.pop(model.name, None)
        model.workflow = workflow
        model.loading.set_result(workflow)
        seconds = time.perf_counter() - started
        self._tell_change()
        self._observer.loaded(seconds)
        log.info("model_loaded", model=model.name, seconds=round(seconds, 3), bytes=model.size)

    def _fail(self, model: _Model, error: Exception) -> None:
        self._end_load(model)
        why = _Failure.of(model.name, error, before=self._failed.get(model.name))
        self._failed[model.name] = why
        failed = _LoadFailed(why)
        failed.__cause__ = error
        model.loading.set_exception(failed)
        model.loading.exception()  # which nobody may wait for any more
        self._observer.failed()
        known = isinstance(error, ConfigurationError | ServiceError | ImportError)
        details = {"error": str(error)} if known else {"exc_info": error}
        log.error("model_not_loaded", model=model.name, **details)

    def _end_load(self, model: _Model) -> None:
        del self._models[model.name]
        self._give_room_back(model)

    # --- room ---------------------------------------------------------------------------------

    async def _make_room(self, model: _Model) -> None:
        if self._most_bytes is not None and model.size > self._most_bytes:
            raise ConfigurationError(
                f"it has {model.size} bytes, and all models together may have {self._most_bytes}"
            )
        async with self._turn:
            while model.uses and not self._fits(model):
                self._let_leave(model)
                self._changed.clear()
                await self._changed.wait()
            if not model.uses:
                raise _NotWanted
            model.has_room = True
            self._count += 1
            self._bytes += model.size
            self._tell_change()

    def _fits(self, model: _Model, *, without: Collection[_Model] = ()) -> bool:
        size = self._bytes - sum(one.size for one in without) + model.size
        count = self._count - len(without) + 1
        return (self._most_bytes is None or size <= self._most_bytes) and (
            self._most_models is None or count <= self._most_models
        )

    def _let_leave(self, model: _Model) -> None:
        """Let as many go as have to for a model, those in use last."""
        ready = [one for one in self._models.values() if one.workflow is not None]
        for one in sorted(ready, key=lambda one: one.uses > 0):
            if self._fits(model, without=self._leaving):
                return
            del self._models[one.name]
            self._leaving.add(one)
            if not one.uses:
                self._start(self._leave(one))

    async def _leave(self, model: _Model) -> None:
        await self._close(model)
        self._leaving.discard(model)
        self._give_room_back(model)
        self._observer.evicted()
        log.info("model_evicted", model=model.name, bytes=model.size)

    async def _close(self, model: _Model) -> None:
        assert model.workflow is not None  # noqa: S101  (only those leave that are ready)
        workflow, model.workflow = model.workflow, None
        if model.batcher is not None:
            model.batcher.close()
        workflow.use(executor=self._threads)
        try:
            await workflow.close()
        except Exception:
            log.exception("model_not_closed", model=model.name)
        del workflow  # a class without `do_close` keeps its model as long as it lives itself
        await asyncio.get_running_loop().run_in_executor(self._threads, _return_memory)

    def _give_room_back(self, model: _Model) -> None:
        if model.has_room:
            model.has_room = False
            self._count -= 1
            self._bytes -= model.size
        self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._observer.changed(self._count, self._bytes)


async def _set_up(workflow: BaseClassicMLInferenceWorkflow) -> None:
    """Load a model and run it once where an input is known: first runs are slow."""
    await workflow.setup()
    if (example := workflow.example_input()) is None:
        return
    try:
        await workflow.inference(example)
    except Exception as error:  # zeros may be no input for it; requests will tell
        log.warning("warm_up_failed", model=workflow.known_as, error=type(error).__name__)


def _return_memory() -> None:
    """Let the C library return what was freed; it would keep it for the thread that had it."""
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has this
        ctypes.CDLL(None).malloc_trim(0)
