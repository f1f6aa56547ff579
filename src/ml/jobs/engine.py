"""The jobs of a service in one process: their store, their events as they come, and the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ml.errors import ConfigurationError, NotReady
from ml.jobs.executors.choice import executor_class
from ml.jobs.job import Job, StopRequest
from ml.jobs.settings import JobSettings

if TYPE_CHECKING:
    from ml.jobs.executors.executor import Executor
    from ml.jobs.scheduler import Scheduler
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails

__all__ = ["JobEngine"]


class JobEngine:
    """Opens and closes what jobs need, all of it under one folder.

    Args:
        folder: jobs work in `folder/jobs/<id>`; by default their records are in it, too.
        settings: its `job_slots` are those of all engines of this host with the same database.
        environment: variables for the jobs' processes, beside those of this one.
        files_url: see `ml.jobs.remote_files`; by default the hosts of jobs share the folder.
        on_end: called with the record of each job that this process saw end.
    """

    def __init__(
        self,
        folder: Path,
        settings: JobSettings,
        *,
        environment: Mapping[str, str] | None = None,
        files_url: str | None = None,
        on_end: Callable[[Job], Awaitable[None]] | None = None,
    ) -> None:
        self.folder = folder
        self._settings = settings
        self._environment = environment or {}
        self._files_url = files_url
        self._on_end = on_end
        self._store: JobStore | None = None
        self._tails: Tails | None = None
        self._executor: Executor | None = None
        self._scheduler: Scheduler | None = None

    @property
    def store(self) -> JobStore:
        """The records of all jobs. Raises `NotReady` unless the engine is open."""
        if self._store is None:
            raise NotReady("The jobs are not there yet.", retry_after_seconds=1)
        return self._store

    @property
    def tails(self) -> Tails:
        """The events of jobs as they come. Raises `NotReady` unless the engine is open."""
        if self._tails is None:
            raise NotReady("The jobs are not there yet.", retry_after_seconds=1)
        return self._tails

    async def cancel(self, job_id: str) -> Job:
        """End a job, or ask a running one to; raises `NotFound` or `IllegalTransition`."""
        return await self.store.request_stop(job_id, StopRequest.CANCEL)

    async def resume(self, job_id: str) -> Job:
        """Queue a job again that did not succeed; raises `NotFound` or `IllegalTransition`."""
        return await self.store.requeue(job_id)

    @property
    def jobs_folder(self) -> Path:
        """Where each job has a folder of its own, named by its id."""
        return self.folder / "jobs"

    def make_folder(self) -> None:
        """Make the folder. Raises `ConfigurationError` where that cannot be."""
        try:
            self.jobs_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.folder} cannot be made: {error.strerror}") from error

    async def open(self) -> None:
        """Open the store: jobs can be looked at and queued from now on."""
        from ml.jobs.store import JobStore
        from ml.jobs.tail import Tails

        if self._store is not None:
            return
        await asyncio.to_thread(self.make_folder)
        url = self._settings.store_url or f"sqlite:///{self.folder.absolute() / 'jobs.sqlite'}"
        self._store = await JobStore(url).open()
        self._tails = Tails(self._store)

    async def start(self) -> None:
        """Take up the queue. Raises what `Executor.open` does."""
        from ml.jobs.scheduler import Scheduler

        settings = self._settings
        kind = await asyncio.to_thread(executor_class, settings.executor)  # its import may be long
        executor = kind(
            self.store.url, self.jobs_folder, settings, self._environment, self._files_url
        )
        await executor.open()
        self._executor = executor
        self._scheduler = Scheduler(
            self.store,
            executor,
            slots=settings.job_slots,
            grace_seconds=settings.grace_seconds,
            resume_interrupted=settings.resume_interrupted,
            on_end=self._on_end,
        )
        await self._scheduler.start()

    async def close(self) -> None:
        """Let running jobs save, and close the store; the engine can be opened again."""
        try:
            if self._scheduler is not None:
                await self._scheduler.stop()
            if self._executor is not None:
                await self._executor.close()
        finally:
            if self._store is not None:
                await self._store.close()
        self._scheduler = self._executor = self._store = self._tails = None
