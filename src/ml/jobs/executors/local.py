"""Jobs as child processes of this one, each in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ml.jobs import child
from ml.jobs.assignment import Assignment
from ml.jobs.executors.executor import Executor, Exit
from ml.jobs.job import Job
from ml.jobs.log_file import LOG_FILE, last_lines_event
from ml.jobs.process import Process
from ml.jobs.settings import JobSettings

__all__ = ["LocalExecutor"]

#: A process that is gone had a parent that may say more about its end: it is given this time.
_PARENTS_TURN_SECONDS = 3.0
#: Signals that mean "please end", so that the job is not at fault.
_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    attempt: int
    told_to_end: bool = False
    leaving_since: float | None = None


class LocalExecutor(Executor):
    """Runs jobs on this host.

    A process may take `grace_seconds` to save and end once its parent died. Of a job of another
    host, whose clock is taken to agree to within a few seconds, it knows the signs of life alone.
    """

    def __init__(
        self,
        store_url: str,
        folder: Path,
        settings: JobSettings,
        environment: Mapping[str, str],
        files_url: str | None = None,
    ) -> None:
        self._store_url = store_url
        self._folder = folder
        self._settings = settings
        self._environment = environment
        self._children: dict[str, _Child] = {}
        self._orphaned_since: dict[tuple[str, int], float] = {}

    def own(self) -> Collection[str]:
        """Return the ids of the jobs whose processes this one started and has not seen end."""
        return tuple(self._children)

    async def start(self, job: Job) -> None:
        """Start a job's process; raises `OSError` if it cannot."""
        if job.id in self._children:  # an earlier attempt that ended but does not leave
            await self.kill(job)
            self._children.pop(job.id).process.wait()
        # Started by the thread that runs this: the child ends with the thread that started it.
        self._children[job.id] = _Child(self._spawn(job), job.attempt)

    def _spawn(self, job: Job) -> subprocess.Popen[bytes]:
        folder = self._folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        variables = {
            **self._environment,
            **Assignment(self._store_url, folder, job.attempt, os.getpid()).environment(),
            "PYTHONUNBUFFERED": "1",  # the log file is read while it is written
        }
        with (folder / LOG_FILE).open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", child.__name__, job.id],
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def ended(self, job: Job) -> Exit | None:
        """Return how a running job's process ended; None while it runs, or may."""
        mine = self._children.get(job.id)
        if mine is None:
            return self._foreign_end(job)
        if mine.attempt != job.attempt:
            return None
        code = self._exit_code(mine)
        return None if code is None else self._exit(job, mine, code)

    async def interrupt(self, job_id: str) -> None:
        """Tell an own job's process to save and end."""
        if mine := self._children.get(job_id):
            mine.told_to_end = True
            self._signal_group(mine, signal.SIGTERM)

    async def kill(self, job: Job) -> None:
        """End a job's process and all of its group, at once."""
        if mine := self._children.get(job.id):
            self._signal_group(mine, signal.SIGKILL)
        elif (process := Process.of(job.process)) and process.is_here and not process.is_gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def release(self, job: Job) -> None:
        """Let go of the process of a job that ended; kill it if it does not leave in time."""
        mine = self._children[job.id]
        if self._exit_code(mine) is not None:
            del self._children[job.id]
            return
        mine.leaving_since = mine.leaving_since or time.monotonic()
        if time.monotonic() > mine.leaving_since + self._settings.grace_seconds:
            self._signal_group(mine, signal.SIGKILL)

    def _signal_group(self, mine: _Child, number: signal.Signals) -> None:
        # While it is not waited for, its number is no other's, even if it has ended.
        if mine.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(mine.process.pid, number)

    def _exit_code(self, mine: _Child) -> int | None:
        """Return a child's exit code, None while it runs; its group ends with it."""
        if mine.process.returncode is None:
            ended = os.waitid(os.P_PID, mine.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            self._signal_group(mine, signal.SIGKILL)  # what it started must not outlive it
        return mine.process.wait()

    def _exit(self, job: Job, mine: _Child, code: int) -> Exit:
        ended = Exit.of_code(code, _POLITE, last_lines_event(self._folder / job.id))
        if not mine.told_to_end:
            return ended
        if code == -signal.SIGKILL:
            ended = replace(ended, reason="It did not save in the time it had, and was killed.")
        return replace(ended, resumable=True)

    def _foreign_end(self, job: Job) -> Exit | None:
        """Return the end of a job whose process is not this one's child."""
        silent_seconds = time.time() - (job.heartbeat_at or 0.0)
        process = Process.of(job.process)
        claimed_by = Process.parse(job.process.get("worker", ""))
        nearest = process or claimed_by
        if nearest and nearest.is_gone and silent_seconds > _PARENTS_TURN_SECONDS:
            return Exit("Its process is gone.", resumable=True)
        if process is None or not process.is_here:
            if silent_seconds < self._settings.lost_seconds:
                return None
            return Exit(f"It showed no sign of life for {silent_seconds:.0f} s.", resumable=True)
        parent = Process.parse(job.process.get("parent", ""))
        if parent and parent.is_gone:
            # It was sent SIGTERM when that happened: it saves, or hangs.
            since = self._orphaned_since.setdefault((job.id, job.attempt), time.monotonic())
            if time.monotonic() > since + self._settings.grace_seconds:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return None
