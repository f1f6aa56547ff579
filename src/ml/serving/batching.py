"""Gathers the model runs of concurrent requests into batches.

A batch is started as soon as every request in flight waits in the queue: a lone request never
waits for company that is not there, which a fixed window would make it do.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

if TYPE_CHECKING:
    from ml.serving.metrics import Metrics

__all__ = ["MicroBatcher"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Item:
    before: Callable[[], Any]
    after: Callable[[Any], Any]
    result: asyncio.Future[Any]
    arrived: float


class MicroBatcher:
    """Runs a workflow's `do_run_batch` on what waits, one batch after the other, in a thread.

    An item that fails in `before`, in `after`, or that the workflow answers with an exception
    fails alone. A batch that fails as a whole is run again item by item.
    """

    def __init__(
        self,
        workflow: BaseInferenceWorkflow,
        *,
        max_size: int,
        window_seconds: float,
        in_flight: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._workflow = workflow
        self._run_batch: Callable[[list[Any]], Any] = workflow.do_run_batch  # type: ignore[attr-defined]
        self._max_size = max_size
        self._window_seconds = window_seconds
        self._in_flight = in_flight
        self._metrics = metrics
        self._queue: deque[_Item] = deque()
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, before: Callable[[], Any], after: Callable[[Any], T]) -> T:
        """Run `before()`, the model on its result as part of a batch, and `after(output)`."""
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="micro-batcher")
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Item(before, after, result, time.perf_counter()))
        self._arrival.set()
        return await result

    async def close(self) -> None:
        """Stop; what still waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        while self._queue:
            self._queue.popleft().result.cancel()

    async def _work(self) -> None:
        while True:
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            started = time.perf_counter()
            try:
                outcomes = await self._run(batch)
            except Exception as error:
                outcomes = [error] * len(batch)
            self._metrics.batch_seconds.observe(time.perf_counter() - started)
            self._metrics.batch_size.observe(len(batch))
            for item, outcome in zip(batch, outcomes, strict=True):
                _settle(item.result, outcome)

    async def _gather(self) -> None:
        while not self._queue:
            self._arrival.clear()
            await self._arrival.wait()
        end = asyncio.get_running_loop().time() + self._window_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while len(self._queue) < min(self._max_size, self._in_flight()):
                    self._arrival.clear()
                    await self._arrival.wait()

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        now = time.perf_counter()
        while self._queue and len(batch) < self._max_size:
            item = self._queue.popleft()
            if not item.result.done():  # its caller may have gone away
                batch.append(item)
                self._metrics.queue_seconds.observe(now - item.arrived)
        self._metrics.queue_depth.set(len(self._queue))
        return batch

    async def _run(self, batch: list[_Item]) -> list[Any]:
        in_thread = self._workflow.in_thread
        if not inspect.iscoroutinefunction(self._run_batch):
            return await in_thread(self._run_in_thread, batch)
        inputs = await in_thread(_attempt_all, [item.before for item in batch])
        positions = [i for i, value in enumerate(inputs) if not isinstance(value, Exception)]
        outputs = list(inputs)
        if positions:
            for i, output in zip(
                positions, await self._run_async([inputs[i] for i in positions]), strict=True
            ):
                outputs[i] = output
        return await in_thread(_finish_all, batch, outputs)

    def _run_in_thread(self, batch: list[_Item]) -> list[Any]:
        outputs = _attempt_all([item.before for item in batch])
        positions = [i for i, value in enumerate(outputs) if not isinstance(value, Exception)]
        if positions:
            results = self._run_plain([outputs[i] for i in positions])
            for i, output in zip(positions, results, strict=True):
                outputs[i] = output
        return _finish_all(batch, outputs)

    def _run_plain(self, inputs: list[Any]) -> list[Any]:
        try:
            return _checked(self._run_batch(inputs), inputs)
        except Exception as error:
            if len(inputs) == 1:
                return [error]
            return [self._run_plain([one])[0] for one in inputs]

    async def _run_async(self, inputs: list[Any]) -> list[Any]:
        try:
            return _checked(await self._run_batch(inputs), inputs)
        except Exception as error:
            if len(inputs) == 1:
                return [error]
            return [(await self._run_async([one]))[0] for one in inputs]


def _attempt_all(functions: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = []
    for function in functions:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)
    return results


def _finish_all(batch: list[_Item], outputs: list[Any]) -> list[Any]:
    results: list[Any] = []
    for item, output in zip(batch, outputs, strict=True):
        try:
            results.append(output if isinstance(output, Exception) else item.after(output))
        except Exception as error:
            results.append(error)
    return results


def _checked(outputs: Any, inputs: list[Any]) -> list[Any]:
    if len(outputs) != len(inputs):
        raise RuntimeError(f"do_run_batch returned {len(outputs)} outputs for {len(inputs)} inputs")
    return list(outputs)


def _settle(result: asyncio.Future[Any], outcome: Any) -> None:
    if result.done():
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
