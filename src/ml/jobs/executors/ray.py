"""Jobs on the nodes of a Ray cluster, each a submitted job of Ray's.

A job belongs to the cluster: it goes on when this process ends, whoever leads then looks after it,
and it is its record that says whether it lives. So Ray is asked only while a job shows no sign of
life, and everything may be asked again: a name is a job's id and attempt, of one name Ray runs one
command, and of one attempt the record takes one process.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import structlog

from ml import tracing
from ml.errors import ConfigurationError
from ml.jobs import child
from ml.jobs.assignment import Assignment
from ml.jobs.environment_file import EnvironmentFile, SharedEnvironmentFile
from ml.jobs.event_type import EventType
from ml.jobs.executors.executor import Executor, Exit
from ml.jobs.executors.ray_jobs import RayAway, RayJob, RayJobs, RayRefusal, TokenRefused
from ml.jobs.job import Job
from ml.jobs.log_file import LOG_FILE, last_lines_event
from ml.jobs.remote_files import FilesAway
from ml.jobs.resources import Resources
from ml.jobs.settings import JobSettings

__all__ = ["RayExecutor"]

#: A job beats every second. One that did within this time lives, and nobody has to be asked.
_FRESH_SECONDS = 3.0
_ASK_EVERY_SECONDS, _CLOSE_SECONDS = 1.0, 5.0
_LONGEST_MESSAGE = 2000
#: Of no use to a job that would only be started again the same way.
_SETUP_FAULTS = ("RUNTIME_ENV_SETUP_FAILURE", "JOB_ENTRYPOINT_COMMAND_START_ERROR")
_NO_ROOM = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
#: From elsewhere: a node that is taken away, too little memory, a person.
_FOREIGN_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = structlog.get_logger(__name__)


class RayExecutor(Executor):
    """Runs jobs on a Ray cluster whose nodes have this distribution and share the folder.

    What Ray is told stands in its dashboard. So a job finds its `Assignment`, with the password of
    its store, in a file that only its owner reads, and that goes when the job has read it. With
    `files_url` the nodes share no folder: that file is there, and what a job prints is Ray's to
    keep.
    """

    outlives_service: ClassVar[bool] = True

    def __init__(
        self,
        store_url: str,
        folder: Path,
        settings: JobSettings,
        environment: Mapping[str, str],
        files_url: str | None = None,
    ) -> None:
        self._store_url = store_url
        self._folder = folder.absolute()
        self._settings = settings
        self._environment = dict(environment)
        self._files_url = files_url
        self._ray: RayJobs | None = None
        self._is_away = False
        self._own: dict[str, int] = {}
        #: When what was asked of the cluster may be asked again.
        self._ask_at: dict[tuple[str, str], float] = {}
        self._submissions: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, str] = {}

    def own(self) -> Collection[str]:
        """Return the ids of the jobs that this process looks after."""
        return tuple(self._own)

    async def open(self) -> None:
        """Ask the cluster who it is; one that does not answer yet is no fault: jobs wait for it.

        Raises `ConfigurationError` for a token that is not taken.
        """
        address, token = self._settings.ray_address, self._settings.ray_token
        if address is None or token is None:  # which the settings know to be needed
            raise ConfigurationError("ray_address, ray_token: executor 'ray' needs them")
        self._ray = RayJobs(address, token.get_secret_value())
        try:
            _log.info("ray_cluster", address=address, version=await self._ray.version())
        except TokenRefused as error:
            await self.close()
            raise ConfigurationError(f"ray_token: {error}") from None
        except RayAway as error:
            self._note(error)

    async def close(self) -> None:
        """Let go of the cluster; the jobs stay there."""
        if self._submissions:
            _, late = await asyncio.wait(self._submissions.values(), timeout=_CLOSE_SECONDS)
            for submission in late:  # what Ray did not take, the next service submits again
                submission.cancel()
        if self._ray is not None:
            await self._ray.close()

    async def start(self, job: Job) -> None:
        """Have a job's process started on some node, in the background."""
        self._own[job.id] = job.attempt
        await asyncio.to_thread((self._folder / job.id).mkdir, parents=True, exist_ok=True)
        self._submit(job)

    async def ended(self, job: Job) -> Exit | None:
        """Return how a running job's process ended; None while it runs, or may."""
        self._own[job.id] = job.attempt
        name = _name(job.id, job.attempt)
        if name in self._refused:
            return Exit(f"Ray would not start it: {self._refused[name]}")
        has_begun = "pid" in job.process
        if has_begun and time.time() - (job.heartbeat_at or 0.0) < _FRESH_SECONDS:
            return None
        if not has_begun and job.stop is not None:
            await self._stop(name)  # should it begin nevertheless, its record does not take it
            return Exit("It was stopped before a node had taken it up.", resumable=True)
        if name in self._submissions or not self._may_ask("look", name):
            return None
        try:
            known = await self._cluster.look(name)
        except RayAway as error:
            self._note(error)
            return self._lost(job) if has_begun else None
        self._is_away = False
        if known is None:
            if has_begun:
                return self._lost(job)
            self._submit(job)  # the head was away, or forgot it, before a node took it up
            return None
        return self._exit(job, known) if known.is_over else None

    async def interrupt(self, job_id: str) -> None:
        """Tell a job's process to save and end."""
        await self._stop(_name(job_id, self._own[job_id]))

    async def kill(self, job: Job) -> None:
        """End a job's process: Ray sends SIGTERM, and kills what is left after the grace time."""
        await self._stop(_name(job.id, job.attempt))

    async def release(self, job: Job) -> None:
        """Forget a job that ended."""
        attempt = self._own.pop(job.id)
        # It may never have read it.
        await asyncio.to_thread(self._environment_file(job.id, attempt).discard)
        name = _name(job.id, attempt)
        self._refused.pop(name, None)
        for what in ("look", "stop"):
            self._ask_at.pop((what, name), None)

    @property
    def _cluster(self) -> RayJobs:
        if self._ray is None:
            raise RuntimeError("the executor is not open")
        return self._ray

    def _environment_file(
        self, job_id: str, attempt: int
    ) -> EnvironmentFile | SharedEnvironmentFile:
        name = f"environment-{attempt}.json"
        if self._files_url is not None:
            return SharedEnvironmentFile(self._files_url, f"jobs/{job_id}/{name}")
        return EnvironmentFile(self._folder / job_id / name)

    def _submit(self, job: Job) -> None:
        name = _name(job.id, job.attempt)
        if name not in self._submissions:
            task = asyncio.create_task(self._have_run(job), name=f"submission of {name}")
            self._submissions[name] = task
            task.add_done_callback(lambda _: self._submissions.pop(name, None))

    async def _have_run(self, job: Job) -> None:
        folder, settings = self._folder / job.id, self._settings
        told = Assignment(self._store_url, folder, job.attempt).environment()
        file = self._environment_file(job.id, job.attempt)
        variables = {
            **file.variable(),
            "RAY_JOB_STOP_WAIT_TIME_S": str(max(1, round(settings.grace_seconds))),
        }
        log = shlex.quote(str(folder / LOG_FILE))
        command = f"exec python -m {child.__name__} {job.id}"
        if self._files_url is None:
            command += f" >> {log} 2>&1"
        name = _name(job.id, job.attempt)
        try:
            given = self._environment | tracing.variables() | told
            await asyncio.to_thread(file.write, given)
            await self._cluster.submit(
                name, command, variables, Resources.of(job, settings.resources)
            )
        except (RayAway, FilesAway) as error:
            self._note(error)
        except (RayRefusal, OSError) as error:
            self._refused[name] = str(error)

    def _may_ask(self, what: str, name: str) -> bool:
        """Return whether to ask about a job now; the scheduler would five times a second."""
        now = time.monotonic()
        if now < self._ask_at.get((what, name), 0.0):
            return False
        self._ask_at[what, name] = now + _ASK_EVERY_SECONDS
        return True

    async def _stop(self, name: str) -> None:
        if not self._may_ask("stop", name):
            return
        try:
            await self._cluster.stop(name)
        except RayAway as error:
            self._note(error)

    def _note(self, error: RayAway | FilesAway) -> None:
        if not self._is_away:  # once, and not for each job and second
            _log.warning("ray_away", error=str(error))
        self._is_away = True

    def _lost(self, job: Job) -> Exit | None:
        """Return the end of a job of which Ray cannot say how it is."""
        silent_seconds = time.time() - (job.heartbeat_at or 0.0)
        if silent_seconds < self._settings.lost_seconds:
            return None
        return Exit(f"It showed no sign of life for {silent_seconds:.0f} s.", resumable=True)

    def _exit(self, job: Job, known: RayJob) -> Exit:
        events = last_lines_event(self._folder / job.id)
        if not events and known.message:  # such as of a folder that is not there on the node
            message = known.message[-_LONGEST_MESSAGE:]
            events = [(EventType.LOG, {"level": "error", "message": message})]
        if known.exit_code is not None and known.status != "STOPPED":
            return Exit.of_code(known.exit_code, _FOREIGN_SIGNALS, events)
        if known.fault in _SETUP_FAULTS:
            return Exit("Ray could not set its process up.", events=tuple(events))
        reason = "Its node died, or what watched over it there."
        if known.status == "STOPPED":
            reason = "It was stopped in the Ray cluster."
        elif known.fault == _NO_ROOM:
            reason = "No node of the Ray cluster had room for it in time."
        return Exit(reason, resumable=True, events=tuple(events))


def _name(job_id: str, attempt: int) -> str:
    return f"{job_id}-{attempt}"
