"""A process that runs ezkl's calls: they hold the interpreter's lock, panic, and can abort.

The process is a fresh interpreter, never a fork: one that ezkl ran in before would deadlock. It is
started by the first task and again after it died or had to be killed.

    worker = Worker()
    proof = worker.run(partial(tasks.prove, files, document), seconds=30.0)
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog

from ml.errors import DeadlineExceeded, OutOfMemory, ServiceError
from ml.proving.explaining import is_out_of_memory
from ml.proving.failures import ProvingProcessDied

__all__ = ["FOLDER_PREFIX", "Progress", "Worker", "never", "unreported"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Told a stage's name when it begins, with None, and when it ends, with its seconds.
Progress = Callable[[str, float | None], None]

#: How the names of the private folders begin.
FOLDER_PREFIX = "proving-"
#: How soon a cancellation is seen.
_POLL_SECONDS = 0.1
_ENDS_WITHIN_SECONDS = 30.0
#: Where nothing listens: the process reaches no network, whatever ezkl would fetch by itself.
_NOWHERE = "http://127.0.0.1:9"


def never() -> bool:
    """Return false: nobody cancels this."""
    return False


def unreported(stage: str, seconds: float | None) -> None:
    """Tell nobody of a stage."""


class Worker:
    """Runs one task at a time; other threads wait for their turn.

    `memory_limit_bytes` bounds the process's data. `offline` keeps it from the network. Its files,
    and those of each task's scratch folder, lie in a private folder that `close` removes, as does
    the process when it outlives this one; it is made in `folder`, by default the system's for
    temporary files.
    """

    def __init__(
        self,
        *,
        memory_limit_bytes: int | None = None,
        offline: bool = True,
        folder: Path | None = None,
    ) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._offline = offline
        self._place = folder
        self._turn = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        #: How many tasks it was given.
        self.runs = 0

    @property
    def pid(self) -> int | None:
        """The process id, None while there is no process."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(
        self,
        task: Callable[[Path, Progress], T],
        *,
        seconds: float = math.inf,
        progress: Progress = unreported,
        is_cancelled: Callable[[], bool] = never,
    ) -> T:
        """Return `task(scratch, report)`, run in the process; `scratch` is a folder of this call.

        The task is a function of a module, or a `partial` of one, and its arguments, its result
        and what it raises are pickled.

        Raises `DeadlineExceeded` after so many seconds or once `is_cancelled()` is true, with the
        process killed; `ProvingProcessDied` or `OutOfMemory` when it ended in mid-task; and
        whatever the task raises.
        """
        deadline = time.monotonic() + seconds
        self._wait_for_turn(deadline, is_cancelled)
        self.runs += 1
        done = False
        try:
            connection = self._ready_connection()
            with tempfile.TemporaryDirectory(dir=self._path(), prefix="task-") as scratch:
                try:
                    connection.send((task, Path(scratch)))
                    result: T = self._answer(connection, deadline, progress, is_cancelled)
                    done = True
                    return result
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    raise self._death() from None
                except _TaskFailed as failed:
                    done = True
                    raise failed.error from None
                finally:
                    if not done:  # before its scratch folder goes
                        self._end_process()
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the process and remove its folder; a running task ends with `ProvingProcessDied`."""
        process = self._process
        if process is not None:
            process.kill()
        with self._turn:
            self._end_process()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one task -----------------------------------------------------------------------------

    def _wait_for_turn(self, deadline: float, is_cancelled: Callable[[], bool]) -> None:
        while not self._turn.acquire(timeout=_wait_seconds(deadline)):
            _require_time(deadline, is_cancelled)

    def _answer(
        self,
        connection: Connection[Any, Any],
        deadline: float,
        progress: Progress,
        is_cancelled: Callable[[], bool],
    ) -> Any:
        while True:
            if not connection.poll(_wait_seconds(deadline)):
                _require_time(deadline, is_cancelled)
                continue
            match _received(connection):
                case ("stage", stage, seconds):
                    progress(stage, seconds)
                case ("result", result):
                    return result
                case ("failed", error, detail):
                    if detail:
                        log.warning("proving_failed", error=type(error).__name__, detail=detail)
                    raise _TaskFailed(error)

    def _death(self) -> ServiceError:
        process = self._process
        if process is None:  # closed
            return ProvingProcessDied()
        code = process.wait(_ENDS_WITHIN_SECONDS)
        if is_out_of_memory(self._path("output").read_text(errors="replace")):
            return OutOfMemory(
                "The proof needs more memory than the proving process may take"
                + (f" ({self._memory_limit_bytes} bytes)." if self._memory_limit_bytes else ".")
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        log.warning("proving_process_died", how=how)
        hint = "; out of memory, if nobody killed it" if code == -signal.SIGKILL else ""
        return ProvingProcessDied(
            f"The proving process died ({how}{hint}); the next request starts a new one."
        )

    # --- the process --------------------------------------------------------------------------

    def _ready_connection(self) -> Connection[Any, Any]:
        if self._connection is not None and (self.pid is None or not self._has_folder()):
            self._end_process()
        if self._connection is None:
            self._connection = self._start()
        os.truncate(self._path("output"), 0)
        return self._connection

    def _start(self) -> Connection[Any, Any]:
        if not self._has_folder():
            self._make_folder()
        ours, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "ml.proving.worker_process"]
        numbers = (theirs.fileno(), int(self._memory_limit_bytes or 0), os.getpid())
        command += [*map(str, numbers), str(self._path("output"))]
        with theirs, self._path("output").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env=self._environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return ours

    def _has_folder(self) -> bool:
        # What cleans up temporary files takes them from a process that was idle for long.
        parts = ("ezkl/cache", "output")
        return self._folder is not None and all(self._path(part).exists() for part in parts)

    def _make_folder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = tempfile.TemporaryDirectory(
            prefix=FOLDER_PREFIX, dir=self._place, ignore_cleanup_errors=True
        )
        self._path("ezkl", "cache").mkdir(parents=True)

    def _environment(self) -> dict[str, str]:
        changed = {
            "EZKL_REPO_PATH": str(self._path("ezkl")),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "RUST_BACKTRACE": "0",
        }
        if self._offline:
            changed |= dict.fromkeys(("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE)
            changed |= {"NO_PROXY": ""}
        kept = {name: value for name, value in os.environ.items() if name.upper() not in changed}
        return kept | changed

    def _path(self, *parts: str) -> Path:
        if self._folder is None:
            raise RuntimeError("the worker has no folder before it starts")
        return Path(self._folder.name, *parts)

    def _end_process(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(_ENDS_WITHIN_SECONDS)
            self._process = None


class _TaskFailed(Exception):
    """Carries what a task raised past what its transport may raise."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _received(connection: Connection[Any, Any]) -> Any:
    try:
        return connection.recv()
    except OSError as error:  # of a process that died in the middle of what it said
        raise EOFError from error


def _wait_seconds(deadline: float) -> float:
    return max(0.0, min(_POLL_SECONDS, deadline - time.monotonic()))


def _require_time(deadline: float, is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise DeadlineExceeded("The proof was cancelled.")
    if time.monotonic() >= deadline:
        raise DeadlineExceeded("The proof did not finish in time.")
