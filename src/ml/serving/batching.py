"""Gathers the model runs of concurrent requests into batches.

A batch starts as soon as every request in flight waits in the queue: a lone request never waits
for company that is not there, which a fixed window would make it do. Where the model is quick, it
does not wait for a thread either, which would take longer than the model.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

if TYPE_CHECKING:
    from ml.serving.metrics import Metrics

__all__ = ["MicroBatcher"]

T = TypeVar("T")

_SWITCH_SECONDS = 0.001
#: A run that takes less than a turn of the thread is quick. So many of items that come alone have
#: to be, and each that is not, as on a busy machine, takes some of them away again.
_QUICK_SECONDS, _QUICK_RUNS, _LOST_RUNS = _SWITCH_SECONDS, 16, 2
#: One that others would notice takes all away.
_LONG_SECONDS = 0.02


@dataclass(slots=True, eq=False)
class _Item:
    before: Callable[[], object]
    after: Callable[[object], object]
    result: asyncio.Future[Any]
    arrived: float
    #: Of one that came alone, once that is known.
    input_size: int = 0


class MicroBatcher:
    """Runs a workflow's `do_run_batch` on what waits, one batch after the other.

    An item that fails in `before`, in `after`, or that the workflow answers with an exception
    fails alone. A batch that fails as a whole is run again item by item.

    A plain `do_run_batch` runs in one thread of the batcher's own: for a small model, a pool's
    bookkeeping would take longer than the model.
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
        self._run_batch: Callable[[list[object]], Any] = workflow.do_run_batch  # type: ignore[attr-defined]
        self._is_async = inspect.iscoroutinefunction(self._run_batch)
        self._max_size = max_size
        self._window_seconds = window_seconds
        self._in_flight = in_flight
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Item] = deque()
        self._told_depth = 0
        self._is_running = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Of one item, with no other in flight.
        self._quick_runs = 0
        #: Of the largest input of those: a larger one may take a hundred times as long.
        self._quick_size = 0
        self._batches: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        # The event loop and the thread take turns with the GIL; at Python's 5 ms a batch of many
        # small operations waits longer for its turns than it computes.
        sys.setswitchinterval(_SWITCH_SECONDS)
        threading.Thread(target=self._work, name="inference", daemon=True).start()

    async def submit(
        self, before: Callable[[], object], after: Callable[[object], T], *, is_alike: bool = False
    ) -> T:
        """Run `before()`, the model on its result as part of a batch, and `after(output)`.

        An item that `is_alike`, which takes no longer than others whose inputs are as large, runs
        on the event loop where it is alone and they were quick.
        """
        if is_alike and not self._is_async and self._quick_runs >= _QUICK_RUNS:
            await asyncio.sleep(0)  # whoever came at the same moment is in flight then
            if self._in_flight() <= 1 and not self._is_running:
                started = time.perf_counter()
                prepared = before()
                size = self._workflow.input_size(prepared)
                if size <= self._quick_size:
                    return self._run_here(prepared, after, size, started)
                before = partial(_same, prepared)
        if self._in_flight() > 1:
            self._quick_runs = 0
        result: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Item(before, after, result, time.perf_counter()))
        if not self._is_running:
            self._run_or_wait()
        return await result

    def close(self) -> None:
        """Stop; what still waits is cancelled."""
        self._batches.put(None)
        while self._waiting:
            self._waiting.popleft().result.cancel()

    def _run_here(
        self, prepared: object, after: Callable[[object], T], size: int, started: float
    ) -> T:
        try:
            [output] = self._run_plain([prepared])
            if isinstance(output, Exception):
                raise output
            return after(output)
        finally:
            self._note_run(1, time.perf_counter() - started, size)

    def _note_run(self, size: int, seconds: float, input_size: int) -> None:
        if size == 1 and seconds < _QUICK_SECONDS:
            self._quick_size = max(self._quick_size, input_size)
            self._quick_runs = min(self._quick_runs + 1, _QUICK_RUNS + _LOST_RUNS)
        else:
            lost = _LOST_RUNS if seconds < _LONG_SECONDS else self._quick_runs
            self._quick_runs = max(self._quick_runs - lost, 0)
        self._metrics.batch_seconds.observe(seconds)
        self._metrics.batch_size.observe(size)

    def _run_or_wait(self) -> None:
        if len(self._waiting) >= min(self._max_size, self._in_flight()):
            self._run_waiting()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._window_seconds, self._run_waiting)

    def _run_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._take()
        if not batch:
            return
        self._is_running = True
        if self._is_async:
            task = self._loop.create_task(self._work_async(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._batches.put(batch)

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        now = time.perf_counter()
        while self._waiting and len(batch) < self._max_size:
            item = self._waiting.popleft()
            if not item.result.done():  # its caller may have gone away
                batch.append(item)
                self._metrics.queue_seconds.observe(now - item.arrived)
        # There may be other queues: each adds its own change.
        self._metrics.queue_depth.inc(len(self._waiting) - self._told_depth)
        self._told_depth = len(self._waiting)
        return batch

    def _finish(self, batch: list[_Item], outcomes: list[object], seconds: float) -> None:
        self._is_running = False
        self._note_run(len(batch), seconds, batch[0].input_size)
        for item, outcome in zip(batch, outcomes, strict=True):
            if item.result.done():
                continue
            if isinstance(outcome, StopIteration):  # no future takes it
                item.result.set_exception(RuntimeError("a hook raised StopIteration"))
            elif isinstance(outcome, Exception):
                item.result.set_exception(outcome)
            else:
                item.result.set_result(outcome)
        # Behind the steps that the results above set off: who is answered is in flight no more.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._waiting and not self._is_running:
            self._run_or_wait()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            started = time.perf_counter()
            try:
                outcomes = self._run_in_thread(batch)
            except BaseException as error:  # the thread has to live, whatever a hook raises
                outcomes = [RuntimeError(f"a hook raised {error!r}")] * len(batch)
            seconds = time.perf_counter() - started
            self._loop.call_soon_threadsafe(self._finish, batch, outcomes, seconds)

    def _run_in_thread(self, batch: list[_Item]) -> list[object]:
        outcomes = _attempt_all([item.before for item in batch])
        positions = _succeeded(outcomes)
        if len(batch) == 1 and positions and self._workflow.runs_alike:
            batch[0].input_size = self._workflow.input_size(outcomes[0])
        results = self._run_plain([outcomes[i] for i in positions]) if positions else []
        for i, result in zip(positions, results, strict=True):
            outcomes[i] = result
        return _finish_all(batch, outcomes)

    async def _work_async(self, batch: list[_Item]) -> None:
        started = time.perf_counter()
        in_thread = self._workflow.in_thread
        try:
            outcomes = await in_thread(_attempt_all, [item.before for item in batch])
            positions = _succeeded(outcomes)
            results = await self._run_async([outcomes[i] for i in positions]) if positions else []
            for i, result in zip(positions, results, strict=True):
                outcomes[i] = result
            outcomes = await in_thread(_finish_all, batch, outcomes)
        except BaseException as error:
            outcomes = [RuntimeError(f"a hook raised {error!r}")] * len(batch)
            if not isinstance(error, Exception | SystemExit):
                raise
        finally:
            self._finish(batch, outcomes, time.perf_counter() - started)

    def _run_plain(self, inputs: list[object]) -> list[object]:
        try:
            return _checked(self._run_batch(inputs), inputs)
        except Exception as error:
            if len(inputs) == 1:
                return [error]
            return [self._run_plain([one])[0] for one in inputs]

    async def _run_async(self, inputs: list[object]) -> list[object]:
        try:
            return _checked(await self._run_batch(inputs), inputs)
        except Exception as error:
            if len(inputs) == 1:
                return [error]
            return [(await self._run_async([one]))[0] for one in inputs]


def _same(prepared: object) -> object:
    return prepared


def _succeeded(outcomes: list[object]) -> list[int]:
    return [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]


def _attempt_all(functions: list[Callable[[], object]]) -> list[object]:
    results: list[object] = []
    for function in functions:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)
    return results


def _finish_all(batch: list[_Item], outputs: list[object]) -> list[object]:
    results: list[object] = []
    for item, output in zip(batch, outputs, strict=True):
        try:
            results.append(output if isinstance(output, Exception) else item.after(output))
        except Exception as error:
            results.append(error)
    return results


def _checked(outputs: Collection[object], inputs: list[object]) -> list[object]:
    if len(outputs) != len(inputs):
        raise RuntimeError(f"do_run_batch returned {len(outputs)} outputs for {len(inputs)} inputs")
    return list(outputs)
