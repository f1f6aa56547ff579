"""Who runs the jobs: takes them from the queue, watches over them, and stops them.

Each web worker has a scheduler, which looks after the processes that it started itself. One of
those of a host, or of all hosts where jobs outlive the service, holds a lease in the store and
leads: it alone takes jobs from the queue, and looks for jobs whose process is gone. When the leader
dies, another one leads: at once on the same host, else after the lease has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog

from ml.jobs.event_type import EventType
from ml.jobs.executors.executor import Executor, Exit
from ml.jobs.job import IllegalTransition, Job, JobState, StopRequest
from ml.jobs.process import Process
from ml.jobs.store import JobStore

__all__ = ["Scheduler", "lease_name"]

_LEASE_SECONDS, _RENEW_SECONDS = 10.0, 1.0
_TICK_SECONDS, _PAUSE_SECONDS = 0.2, 1.0
#: Jobs that are read at once.
_PAGE = 1000
#: A job that was interrupted this often is not resumed by itself: it may be what takes us down.
_MOST_ATTEMPTS = 10
_log = structlog.get_logger(__name__)


def lease_name(host: str | None) -> str:
    """Return what the scheduler holds that leads on a host, or on all."""
    return "scheduler" if host is None else f"scheduler of {host}"


class Scheduler:
    """Runs the jobs of a store in the order in which they were queued.

    Args:
        slots: jobs that run at once on this host, whatever the number of its schedulers; where
            jobs outlive the service, of all schedulers of the store together.
        grace_seconds: how long a job may take to save once it is asked to stop.
        resume_interrupted: whether interrupted jobs are queued again.
        on_end: called with the record of each job that ended in this scheduler's care, once its
            process is gone.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        *,
        slots: int = 1,
        grace_seconds: float = 30.0,
        resume_interrupted: bool = False,
        on_end: Callable[[Job], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._slots = slots
        self._grace_seconds = grace_seconds
        self._resume_interrupted = resume_interrupted
        self._on_end = on_end
        process = Process.numbered(os.getpid())
        self._name = f"{process}/{uuid.uuid4().hex[:8]}"
        #: Whose slots are counted; None for those of all.
        self._host = None if executor.outlives_service else process.host
        self._lease = lease_name(self._host)
        self._leads_until = 0.0
        self._renew_at = 0.0
        #: When each running job (id, attempt) was first seen to be asked to stop.
        self._asked_at: dict[tuple[str, int], float] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this scheduler is the one that takes jobs from the queue."""
        return time.monotonic() < self._leads_until

    async def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="job scheduler")

    async def stop(self) -> None:
        """Interrupt the jobs that this process runs; returns when they have saved and ended.

        Those that take longer than `grace_seconds` are killed, and those that outlive this process
        left alone.
        """
        self._stopping.set()
        if self._task is not None:
            await self._task
        end = time.monotonic() + self._grace_seconds
        try:
            if not self._executor.outlives_service:
                await self._end_own_jobs(end)
            await self._store.release_lease(self._lease, self._name)
        except Exception as error:  # without the store: the jobs end with this process
            _log.warning("job_store_unavailable", error=str(error))

    async def _run(self) -> None:
        while not self._stopping.is_set():
            pause = _TICK_SECONDS
            try:
                await self._tick()
            except Exception as error:  # the database restarts, a disk is full: it goes on
                _log.warning("job_store_unavailable", error=str(error))
                pause = _PAUSE_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _tick(self) -> None:
        await self._watch_own()
        await self._try_to_lead()
        if self.leads:
            await self._watch_all()
            await self._fill_slots()

    async def _watch_all(self) -> None:
        running = await self._all(JobState.RUNNING)
        for job in running:
            if job.id not in self._executor.own():
                await self._watch(job)
        known = {(job.id, job.attempt) for job in running}
        self._asked_at = {key: at for key, at in self._asked_at.items() if key in known}
        if self._resume_interrupted:
            await self._resume()

    async def _all(self, state: JobState) -> list[Job]:
        jobs = page = list(await self._store.list([state], _PAGE))
        while len(page) == _PAGE:
            page = list(await self._store.list([state], _PAGE, page[-1].id))
            jobs += page
        return jobs

    # --- leading ------------------------------------------------------------------------------

    async def _try_to_lead(self) -> None:
        now = time.monotonic()
        if now < self._renew_at:
            return
        self._renew_at = now + _RENEW_SECONDS
        holder = await self._store.acquire_lease(self._lease, self._name, _LEASE_SECONDS)
        if holder != self._name and (process := Process.parse(holder)) and process.is_gone:
            await self._store.release_lease(self._lease, holder)
            holder = await self._store.acquire_lease(self._lease, self._name, _LEASE_SECONDS)
        self._leads_until = now + _LEASE_SECONDS if holder == self._name else 0.0

    async def _fill_slots(self) -> None:
        while not self._stopping.is_set() and len(self._executor.own()) < self._slots:
            if not await self._store.list([JobState.QUEUED], 1):
                return
            job = await self._store.claim_next(self._name, self._slots, self._host)
            if job is None:
                return
            await self._start(job)

    async def _start(self, job: Job) -> None:
        try:
            await self._executor.start(job)
        except OSError as error:
            await self._settle(job, Exit(f"Its process could not be started: {error}"))
        else:
            _log.info("job_started", job_id=job.id, attempt=job.attempt)

    async def _resume(self) -> None:
        for job in reversed(await self._all(JobState.INTERRUPTED)):
            if job.attempt < _MOST_ATTEMPTS:
                with contextlib.suppress(IllegalTransition):  # somebody was faster
                    await self._store.requeue(job.id)

    # --- watching -----------------------------------------------------------------------------

    async def _watch_own(self) -> None:
        for job_id in self._executor.own():
            job = await self._store.get(job_id)
            if job.state is JobState.RUNNING:
                await self._watch(job)
            else:
                await self._executor.release(job)
                await self._tell_end(job)

    async def _watch(self, job: Job) -> None:
        """Record how a running job's process ended, or end it if it does not stop when asked."""
        if ended := await self._executor.ended(job):
            await self._settle(job, ended)
        elif job.stop is not None:
            self._asked_at.setdefault((job.id, job.attempt), time.monotonic())
            if self._is_overdue(job):
                await self._executor.kill(job)

    def _is_overdue(self, job: Job) -> bool:
        """Whether it was asked to stop, and had the time that it may take."""
        asked_at = self._asked_at.get((job.id, job.attempt))
        return asked_at is not None and time.monotonic() > asked_at + self._grace_seconds

    async def _settle(self, job: Job, ended: Exit) -> None:
        state, reason, events = JobState.FAILED, ended.reason, list(ended.events)
        if job.stop is StopRequest.CANCEL:
            state = JobState.CANCELLED
            if self._is_overdue(job):
                reason = f"It did not stop within {self._grace_seconds:g} s and was killed."
        elif ended.resumable or job.stop is StopRequest.INTERRUPT:
            state = JobState.INTERRUPTED
        else:
            events.append((EventType.ERROR, {"message": reason}))
        with contextlib.suppress(IllegalTransition):  # it came to its own end in between
            settled = await self._store.transition(
                job.id, state, reason=reason, events=events, attempt=job.attempt
            )
            _log.info("job_ended_without_result", job_id=job.id, state=state, reason=reason)
            await self._tell_end(settled)

    async def _tell_end(self, job: Job) -> None:
        if self._on_end is not None and job.id not in self._executor.own():
            await self._on_end(job)

    async def _end_own_jobs(self, end: float) -> None:
        for job_id in self._executor.own():
            await self._executor.interrupt(job_id)
        while self._executor.own():
            if time.monotonic() > end:
                for job_id in self._executor.own():
                    await self._executor.kill(await self._store.get(job_id))
            await self._watch_own()
            await asyncio.sleep(0.05)
