"""The process of a `Worker`: it receives tasks, runs them, and sends back what came of each."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import shutil
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ml.proving.explaining import explain

__all__ = ["main"]


#: How long a parent that closed the connection may take to be gone, if it ended.
_PARENT_ENDS_WITHIN_SECONDS = 5.0


def main() -> None:
    """Serve a connection until it closes.

    Arguments: the connection's file descriptor, the limit of the process's data in bytes (0 for
    none), the parent's process id, and the file that the standard output goes to, where ezkl
    writes what its errors lack. Its folder is removed if the parent ended and could not do so.
    """
    # The parent decides what ends a task, also when Ctrl-C or a stop is told to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    descriptor, limit_bytes, parent = map(int, sys.argv[1:4])
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    connection: Connection[Any, Any] = Connection(descriptor)
    output = Path(sys.argv[4])
    with contextlib.suppress(OSError):  # nobody waits for the answer
        while _serve_one(connection, output):
            pass
    if _ended(parent):
        shutil.rmtree(output.parent, ignore_errors=True)
    # ezkl's asynchronous calls leave threads that crash an interpreter which ends the usual way.
    os._exit(0)


def _ended(parent: int) -> bool:
    """Return whether the parent is gone: one that goes on ends this process, and cleans up."""
    end = time.monotonic() + _PARENT_ENDS_WITHIN_SECONDS
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.02)  # its connections close before it is gone
    return os.getppid() != parent


def _serve_one(connection: Connection[Any, Any], output: Path) -> bool:
    stages = ["start"]

    def report(name: str, seconds: float | None) -> None:
        stages.append(name)
        connection.send(("stage", name, seconds))

    try:
        given = connection.recv_bytes()
    except EOFError:
        return False
    try:
        task, scratch = pickle.loads(given)  # noqa: S301 (of the parent): this imports the task
        answer: tuple[Any, ...] = ("result", task(scratch, report))
    except BaseException as error:  # a panic of ezkl is no Exception
        answer = ("failed", *explain(error, stages[-1], output.read_text(errors="replace")))
    try:
        connection.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        connection.send(("failed", *explain(error, "answer", "")))
    return True


if __name__ == "__main__":
    main()
