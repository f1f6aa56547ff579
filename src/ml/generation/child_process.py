"""A Python process of one's own, and what is said to it and heard from it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

__all__ = ["ChildProcess", "resident_bytes", "run_as_child"]

#: Serves the connection to the parent, with the settings that it gave.
Serve = Callable[["Connection[Any, Any]", dict[str, Any]], None]


class ChildProcess:
    """A process that runs a module, with a thread that writes to it: its pipe may be full.

    The module gets the file descriptor of a connection, and `settings` as JSON. What both say are
    tuples that begin with a word: first the process says `ready`, or `refused` and why it will
    never be; later it may say `broken` and why, before it ends.
    """

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        self.was_ready = False
        self._broken: str | None = None
        self._outbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        ours, theirs = Pipe()
        self._connection: Connection[Any, Any] = ours
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), json.dumps(settings)]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # where a library tells what it loads
            )
        self._writer = threading.Thread(target=self._write, name=f"to {module}", daemon=True)
        self._writer.start()

    def wait_until_ready(self) -> str | None:
        """Return why it will never be ready, or None once it is."""
        try:
            match self.hear():
                case "refused", why:
                    return str(why)
        except EOFError:
            return f"its process ended ({self.end()})"
        return None

    def say(self, *message: Any) -> None:
        """Send a message, without waiting until it is heard."""
        self._outbox.put(message)

    def hear(self, timeout_seconds: float | None = None) -> tuple[Any, ...]:
        """Wait for what it says. Raises `EOFError` when it ended, and `TimeoutError`."""
        try:
            if not self._connection.poll(timeout_seconds):
                raise TimeoutError
            message: tuple[Any, ...] = self._connection.recv()
        except TimeoutError:
            raise
        except OSError as error:  # it ended in the middle of a word
            raise EOFError from error
        match message:
            case ("ready",):
                self.was_ready = True
            case (("broken" | "refused"), why):
                self._broken = str(why)
        return message

    @property
    def exit_code(self) -> int | None:
        """How it ended, once it was told to end; below zero the signal that ended it."""
        return self._process.returncode

    def kill(self) -> None:
        """Kill it, without waiting for its end."""
        self._process.kill()

    def end(self) -> str:
        """End it, if it still runs; returns how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._outbox.put(None)
        self._writer.join()
        self._connection.close()
        return self._broken or f"the process of the model ended with code {code}"

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # it ended, which who listens hears
            while (message := self._outbox.get()) is not None:
                self._connection.send(message)


def resident_bytes() -> int:
    """Return how much of this process is in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run_as_child(serve: Serve) -> None:
    """Be the process of a `ChildProcess`: serve its connection until it closes, then end."""
    # Who holds the other end decides when this ends, also when Ctrl-C is told to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    with contextlib.suppress(OSError, EOFError):  # nobody is left to tell
        serve(connection, json.loads(sys.argv[2]))
    os._exit(0)  # what a library would wait for is nobody's any more
