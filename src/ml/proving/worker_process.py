"""The process of a `Worker`: it receives tasks, runs them, and sends back what came of each."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ml.proving.explaining import explain

__all__ = ["main"]


def main() -> None:
    """Serve a connection until it closes.

    Arguments: the connection's file descriptor, the limit of the process's data in bytes (0 for
    none), and the file that the standard output goes to, where ezkl writes what its errors lack.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    if limit_bytes := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    output = Path(sys.argv[3])
    while _serve_one(connection, output):
        pass
    # ezkl's asynchronous calls leave threads that crash an interpreter which ends the usual way.
    os._exit(0)


def _serve_one(connection: Connection[Any, Any], output: Path) -> bool:
    stages = ["start"]

    def report(name: str, seconds: float | None) -> None:
        stages.append(name)
        connection.send(("stage", name, seconds))

    try:
        task, scratch = connection.recv()
    except EOFError:
        return False
    try:
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
