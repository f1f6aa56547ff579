"""The processes that train beside a job's own one, and what becomes of it when one of them ends."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ml.errors import ServiceError, UnprocessableInput
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.process_group import Place
from ml.parent_process import end_with_parent

__all__ = ["Part", "Workers", "require_places"]

#: How long the others have to follow: a worker that ends, or one whose worker 0 is done.
_FOLLOW_SECONDS = 10.0
#: After a worker's connection broke, how long its end may take to be seen.
_SEEN_SECONDS = 2.0
_HEED_SECONDS = 0.2
#: What a job's whole group is sent when it is to save, which is worker 0's to do.
_FOR_WORKER_0 = (signal.SIGTERM, signal.SIGINT)


class Part(Protocol):
    """What a further worker does; it is pickled on the way to it."""

    def do(self, place: Place, ready: Callable[[], None]) -> None:
        """Load, say that it is `ready`, and train along as part of the group."""
        ...


@dataclass(frozen=True, slots=True)
class _Fault:
    at: float
    error: ServiceError


@dataclass(frozen=True, slots=True)
class _Worker:
    rank: int
    process: BaseProcess
    told: Connection


def require_places(number: int, *, gpus: int) -> None:
    """Raise `UnprocessableInput` where a host has fewer GPUs, or processors if none, than that."""
    places = gpus or len(os.sched_getaffinity(0))
    if number > max(places, 1):
        kind = "GPU" if gpus else "processor"
        raise UnprocessableInput(
            f"num_workers: each needs a {kind} of its own, and this host has {places}; give at "
            f"most that many"
        )


class Workers:
    """All workers of a training; with one there is nothing but this process.

    In the block the others are there, and none of them is behind it. What is raised in it because
    one of them ended becomes that one's failure; where this process waits for one that ended and
    cannot be woken, it ends as well, and says so in its log.
    """

    def __init__(self, number: int, part: Part) -> None:
        self._number = number
        self._part = part
        self._others: list[_Worker] = []
        self._left = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._number > 1:
            folder = Path(tempfile.mkdtemp(prefix="training-"))  # of this host, no shared one
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self._place = Place(0, self._number, folder / "meeting")
            self._others = [self._start(rank) for rank in range(1, self._number)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        fault = self._fault(_SEEN_SECONDS) if isinstance(error, RuntimeError) else None
        try:
            if error is not None:
                self._end()
            self._stack.__exit__(kind, error, trace)
        finally:
            self._end(patience=_FOLLOW_SECONDS)
        if fault is not None:
            raise fault from error

    def meet(self, heed: Callable[[], object]) -> None:
        """Wait until all have loaded, and be a group; `heed` is called meanwhile and may raise."""
        if not self._others:
            return
        waiting = set(self._others)
        while waiting:
            heed()
            ready = wait([one.told for one in waiting], _HEED_SECONDS)
            waiting = {one for one in waiting if one.told not in ready or not _is_ready(one)}
        threading.Thread(target=self._watch, name="workers", daemon=True).start()
        self._stack.enter_context(self._place.in_group())

    def _start(self, rank: int) -> _Worker:
        spawn = multiprocessing.get_context("spawn")  # a copy of torch's threads would not live
        told, tell = spawn.Pipe(duplex=False)
        place = Place(rank, self._number, self._place.meeting)
        process = spawn.Process(
            target=_work, args=(self._part, place, os.getpid(), tell), name=f"worker {rank}"
        )
        resource_tracker.ensure_running()  # its start would end the block
        with _blocked(_FOR_WORKER_0):
            process.start()
        tell.close()
        return _Worker(rank, process, told)

    def _fault(self, seconds: float) -> ServiceError | None:
        """Return why the first worker failed that did, None if none has by then."""
        end = time.monotonic() + seconds
        while self._others and time.monotonic() < end:
            wait([one.process.sentinel for one in self._others], _HEED_SECONDS)
            if faults := [fault for one in self._others if (fault := _fault_of(one))]:
                return min(faults, key=lambda fault: fault.at).error
        return None

    def _watch(self) -> None:
        running = list(self._others)
        while running and not self._left.is_set():
            wait([one.process.sentinel for one in running], _HEED_SECONDS)
            for one in running:
                if one.process.exitcode and not self._left.wait(_FOLLOW_SECONDS):
                    print(_end_of(one), flush=True)  # noqa: T201
                    os._exit(1)  # such as within a call of NCCL, which waits for ever
            running = [one for one in running if one.process.exitcode is None]

    def _end(self, patience: float = 0.0) -> None:
        end = time.monotonic() + patience
        for one in self._others:
            one.process.join(max(end - time.monotonic(), 0.0))
            one.process.kill()
            one.process.join()
            one.told.close()
        self._others = []


def _is_ready(worker: _Worker) -> bool:
    """Return that it is; raises why it is not."""
    if (fault := _fault_of(worker)) is not None:
        raise fault.error
    return True


def _fault_of(worker: _Worker) -> _Fault | None:
    """Return why a worker failed, if it said so or ended badly."""
    with suppress(EOFError, OSError):  # which mean that it ends
        while worker.told.poll():
            if isinstance(told := worker.told.recv(), _Fault):
                return told
        return None
    worker.process.join(_FOLLOW_SECONDS)
    if not worker.process.exitcode:
        return None
    # What others tell they were told by its broken connection.
    return _Fault(0.0, TrainingFailed(_end_of(worker)))


def _end_of(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        how = f"was killed by {name}"
        how += ", probably out of memory" if code == -signal.SIGKILL else ""
    else:
        how = f"ended with exit code {code}"
    return f"worker {worker.rank} {how}; resume the job to go on from its last checkpoint"


@contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Block signals in this thread, and for ever in the processes that it starts in the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(part: Part, place: Place, parent: int, tell: Connection) -> None:
    """Be a further worker, from the first line of its process to the last."""
    end_with_parent(parent, signal.SIGKILL)
    faulthandler.enable()
    try:
        part.do(place, lambda: tell.send(None))
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        if not isinstance(error, ServiceError):
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            error = TrainingFailed(f"worker {place.rank}: {reason}")
        tell.send(_Fault(time.monotonic(), error))  # before its connections break
        os._exit(1)
