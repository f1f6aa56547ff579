"""vLLM's own engine: how it is started, and a loop of its own that drives it.

The engine's process and the loop that speaks to it belong together: requests come from the event
loop of whoever asks, and the model is loaded in a thread whose loop ends with that.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ml.errors import NotReady
from ml.generation.arguments import LanguageModelArguments
from ml.generation.vllm_arguments import engine_args, environment

__all__ = ["VLLMProcess"]

T = TypeVar("T")

_SHUTDOWN_SECONDS = 1.0


class VLLMProcess:
    """A running engine; `start()` comes first, `stop()` last."""

    def __init__(self, source: str, arguments: LanguageModelArguments, *, max_length: int) -> None:
        self._source, self._arguments, self._max_length = source, arguments, max_length
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._llm: Any = None
        self._starting = asyncio.Lock()
        self._speaking = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Load the model; raises what vLLM raises."""
        self._thread.start()
        try:
            self.run(self.engine()).result()
        except BaseException:
            self.stop()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine in the engine's loop. Raises `NotReady` once it is stopped."""
        with self._speaking:
            if not self._stopped:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise NotReady("The model is being unloaded.")

    async def engine(self) -> Any:
        """Return vLLM's `AsyncLLM`: another one if its process ended by itself."""
        async with self._starting:
            if self._llm is None or self._llm.errored:
                self._shut_down()
                self._llm = self._new()
            return self._llm

    def _new(self) -> Any:
        os.environ.update(environment(self._arguments) | dict(os.environ))
        from vllm.v1.engine.async_llm import AsyncLLM

        given = engine_args(self._source, self._arguments, max_length=self._max_length)
        return AsyncLLM.from_engine_args(given, stat_loggers=[_new_silent_logger])

    def _shut_down(self) -> None:
        if self._llm is not None:
            self._llm.shutdown(timeout=_SHUTDOWN_SECONDS)
            self._llm = None

    def stop(self) -> None:
        """End it; what runs is cancelled."""
        with self._speaking:
            if self._stopped:
                return
            self._stopped = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._shut_down()
        self._loop.close()
        asyncio.set_event_loop(None)


def _new_silent_logger(*_: Any) -> Any:
    """Return what is told of each step and says nothing.

    With one, requests come with the times of their stages; vLLM's own would be a second set of
    metrics.
    """
    from vllm.v1.metrics.loggers import StatLoggerBase

    class SilentLogger(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any = None, engine_index: int = 0) -> None:
            pass

        def record(self, *_: Any, **__: Any) -> None:
            pass

        def log_engine_initialized(self) -> None:
            pass

    return SilentLogger()
