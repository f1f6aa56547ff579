"""The process of a `Worker`: it receives tasks, runs them, and sends back what came of each."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from ml.proving.explaining import explain

__all__ = ["main", "stage"]


def main() -> None:
    """Serve the connection of argument 1 until it closes; argument 2 bounds the data, in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    if limit_bytes := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    while _serve_one(connection):
        pass
    # What ezkl started for its asynchronous calls crashes an interpreter that ends in the usual way.
    os._exit(0)


def _serve_one(connection: Connection[Any, Any]) -> bool:
    stages: list[str] = []

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
        answer = ("failed", *explain(error, stages[-1] if stages else "start"))
    try:
        connection.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        connection.send(("failed", *explain(error, "answer")))
    return True


@contextmanager
def stage(name: str, report: Any) -> Iterator[None]:
    """Report a stage's beginning and, if it succeeds, its end."""
    report(name, None)
    began = time.monotonic()
    yield
    report(name, time.monotonic() - began)


if __name__ == "__main__":
    main()
