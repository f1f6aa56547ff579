"""Work on what strangers wrote, in processes that can be ended whatever they are doing.

Such a process is a module of this project that reads a question on its standard input. It bounds
itself by `limit_resources`, so that it ends even if the one that started it is gone.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ml import errors
from ml.errors import DeadlineExceeded, InternalError, ServiceError

__all__ = ["answer", "ask", "bounded_memory", "limit_cpu", "limit_resources", "start"]

_LOOK_EVERY_SECONDS = 0.1
#: Of the one bound that a process has.
_bounding = threading.Lock()


def start(module: str) -> subprocess.Popen[bytes]:
    """Start a module in a process of its own, with pipes to all its streams."""
    return subprocess.Popen(  # noqa: S603 (a module of this project)
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ask(
    module: str, question: str, *, seconds: float, too_long: str, check: Callable[[], None]
) -> str:
    """Return what a module's process answers to one question.

    `check` is called now and then while it works; what it raises ends the process. Raises what
    the process refuses with, and `DeadlineExceeded` with the words of `too_long`.
    """
    deadline = time.monotonic() + seconds
    with start(module) as process:
        try:
            given: bytes | None = question.encode()
            while True:
                try:
                    told, complaints = process.communicate(given, timeout=_LOOK_EVERY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    given = None
                check()
                if time.monotonic() > deadline:
                    raise DeadlineExceeded(too_long)
        except BaseException:
            process.kill()
            raise
    if process.returncode == -signal.SIGXCPU:
        raise DeadlineExceeded(too_long)
    if process.returncode:
        raise _fault(module, process.returncode, told.decode(), complaints.decode())
    return told.decode()


def answer(work: Callable[[], str]) -> int:
    """Write what the work returns, or what it refuses; return the process's exit code."""
    try:
        sys.stdout.write(work())
    except ServiceError as error:
        known = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        sys.stdout.write(json.dumps({"kind": known.__name__, "refused": error.description}))
        return 1
    return 0


def _fault(module: str, code: int, told: str, complaints: str) -> Exception:
    if told:
        refusal = json.loads(told)
        error: Exception = getattr(errors, refusal["kind"])(refusal["refused"])
        return error
    last = complaints.strip().splitlines()[-1:] or [f"exit code {code}"]
    return InternalError(f"the process of {module} failed: {last[0]}")


def limit_resources(
    *, memory_bytes: int, file_bytes: int = 0, cpu_seconds: float | None = None
) -> None:
    """Bound this process; `file_bytes` is of one file that it writes."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    if cpu_seconds is not None:
        limit_cpu(cpu_seconds)


def limit_cpu(seconds: float) -> None:
    """Have this process ended after so much more work; another call begins anew."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = int(time.process_time() + seconds) + 1
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))


@contextmanager
def bounded_memory(more_bytes: int) -> Iterator[None]:
    """Let this process take so much more memory while the block runs, and no more.

    What goes beyond it fails with `MemoryError`, before the kernel ends the process for it. The
    bound is of all threads.
    """
    with _bounding:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wished = _data_bytes() + more_bytes
        most = min(limit for limit in (wished, soft, hard) if limit != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Return how much of this process's memory its limit of data is of (see proc_pid_statm(5))."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()
