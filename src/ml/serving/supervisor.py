"""Keeps a number of worker processes running.

- The first worker goes ahead alone until its workflow is loaded: it answers /health meanwhile, a
  configuration fault is reported once (and ends everything with its exit code 2), and nobody is
  told "ready" by one worker only to meet another that still loads.
- The others, and replacements of workers that died, listen once their workflow is loaded.
- Too many deaths in short time, with no worker left that answers, end everything with code 1.
- SIGTERM and SIGINT are passed on once; the workers finish what is in flight. A second one kills.
- A worker whose supervisor is gone reads the end of its lifeline, a pipe, and drains.

The signals are blocked and taken one by one with `sigtimedwait`, so no code runs in a handler. What
is done before there are workers, such as an import that hangs, they end by an exception.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn

from prometheus_client import multiprocess

from ml.errors import CONFIGURATION_EXIT_CODE
from ml.serving.output import say

__all__ = ["Supervisor", "report_ready"]

#: This many deaths within this time are taken for a fault that restarting does not mend.
_MOST_DEATHS, _WITHIN_SECONDS = 5, 60.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_READY = signal.SIGRTMIN  # a real-time signal: each of several at once is delivered
_SIGNALS = (*_STOP_SIGNALS, signal.SIGCHLD, _READY, signal.SIGHUP)


def report_ready(supervisor: int) -> None:
    """Tell the supervisor, a process id, from a worker that its workflow is loaded."""
    if os.getppid() == supervisor:  # else it ended, and the signal would hit who adopted us
        os.kill(supervisor, _READY)


class _Stopped(BaseException):
    """A stop signal came before there were workers; no `except Exception` on the way holds it."""


class Supervisor:
    """Runs `run_worker(lifeline, alone)` in `workers` forked processes, `before_forks()` once.

    `lifeline` is a descriptor; `alone` says that no other worker answers yet.
    """

    def __init__(
        self,
        run_worker: Callable[[int, bool], NoReturn],
        workers: int,
        stop_seconds: float,
        before_forks: Callable[[], None],
    ) -> None:
        self._run_worker = run_worker
        self._workers = workers
        self._stop_seconds = stop_seconds
        self._before_forks = before_forks
        self._pids: set[int] = set()
        self._ready: set[int] = set()
        # Under nohup, the end of the terminal is no reason to stop.
        self._ignored = {
            number for number in (signal.SIGHUP,) if signal.getsignal(number) == signal.SIG_IGN
        }
        self._deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
        self._lifeline = os.pipe()
        self._exit_code: int | None = None
        self._kill_at: float | None = None
        self._start_at = 0.0

    def run(self) -> int:
        """Supervise until all workers have ended; returns the exit code."""
        try:
            with self._ended_by_signals():
                self._before_forks()
        except _Stopped:
            return 0
        while self._exit_code is None or self._pids:
            self._kill_if_late()
            self._start_missing()
            received = signal.sigtimedwait(_SIGNALS, self._patience())
            if received is None:
                continue
            if received.si_signo == _READY:
                self._ready.add(received.si_pid)
            elif received.si_signo == signal.SIGCHLD:
                self._reap()
            elif received.si_signo not in self._ignored:
                self._stop(received.si_signo)
        return self._exit_code

    @contextlib.contextmanager
    def _ended_by_signals(self) -> Iterator[None]:
        """Raise `_Stopped` at a stop signal, for what may take long before there are workers.

        Behind it, signals are blocked.
        """

        def stop(*_: object) -> None:
            raise _Stopped

        numbers = {*_STOP_SIGNALS, signal.SIGHUP} - self._ignored
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start_missing(self) -> None:
        if self._exit_code is not None or time.monotonic() < self._start_at:
            return
        while len(self._pids) < (self._workers if self._ready else 1):
            alone = not self._ready
            pid = os.fork()
            if pid == 0:
                self._become_worker(alone)
            self._pids.add(pid)

    def _become_worker(self, alone: bool) -> NoReturn:
        # A group of its own: Ctrl-C in a terminal then reaches the supervisor alone.
        os.setpgid(0, 0)
        os.close(self._lifeline[1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = 1
        try:
            self._run_worker(self._lifeline[0], alone)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            # Not sys.exit: a thread that is still inside a plain hook would hold the process.
            os._exit(code)

    def _patience(self) -> float:
        """Return how many seconds to wait for a signal at most."""
        times = [t for t in (self._kill_at, self._start_at) if t and t > time.monotonic()]
        return min((t - time.monotonic() for t in times), default=60.0)

    def _reap(self) -> None:
        # One SIGCHLD may stand for several deaths.
        while self._pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid not in self._pids:
                continue  # an orphan of a worker: the first process of a container adopts those
            self._pids.discard(pid)
            self._ready.discard(pid)
            if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
            if self._exit_code is None:
                self._judge(pid, os.waitstatus_to_exitcode(status))

    def _judge(self, pid: int, code: int) -> None:
        if code == CONFIGURATION_EXIT_CODE:
            self._give_up(code, "")
            return
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        now = time.monotonic()
        self._deaths.append(now)
        recent = [death for death in self._deaths if now - death < _WITHIN_SECONDS]
        if len(recent) >= _MOST_DEATHS and not self._ready:
            self._give_up(
                1,
                f"workers died {_MOST_DEATHS} times within {_WITHIN_SECONDS:.0f} seconds "
                f"(the last: {cause}); giving up",
            )
            return
        # The first replacement comes at once, the next ones after 1, 2, 4 and 8 seconds.
        self._start_at = now + (2 ** (len(recent) - 2) if len(recent) > 1 else 0)
        say(f"serve: worker {pid} ended ({cause}); it is replaced")

    def _give_up(self, code: int, message: str) -> None:
        if message:
            say(f"serve: {message}")
        self._exit_code = code
        self._signal_all(signal.SIGTERM)
        self._kill_at = time.monotonic() + self._stop_seconds

    def _stop(self, number: int) -> None:
        if self._exit_code is None:
            self._exit_code = 0
            self._signal_all(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            self._kill_at = time.monotonic() + self._stop_seconds
        else:
            say("serve: second signal: killing the workers")
            self._exit_code = self._exit_code or 1
            self._signal_all(signal.SIGKILL)

    def _kill_if_late(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at and self._pids:
            seconds = f"{self._stop_seconds:g} seconds"
            say(f"serve: workers still run {seconds} after the signal: killing them")
            self._exit_code = self._exit_code or 1
            self._signal_all(signal.SIGKILL)
            self._kill_at = None

    def _signal_all(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)
