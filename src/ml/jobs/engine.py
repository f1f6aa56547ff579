"""The jobs of a service in one process: their store, their events as they come, and the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ml.errors import ConfigurationError, NotReady
from ml.jobs.job import Job, StopRequest

if TYPE_CHECKING:
    from ml.jobs.scheduler import Scheduler
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails

__all__ = ["JobEngine"]


class JobEngine:
    """Opens and closes what jobs need, all of it under one folder.

    Args:
        folder: jobs work in `folder/jobs/<id>`.
        database_url: of the records; by default they are in SQLite in the folder.
        slots: jobs that run at once, whatever the number of engines with this database.
        grace_seconds: for a job to save when it is stopped; then it is killed.
        environment: variables for the jobs' processes, beside those of this one.
        on_end: called with the record of each job that this process saw end.

    Raises `ConfigurationError` for a URL that is none of a job store.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str | None = None,
        slots: int = 1,
        grace_seconds: float = 30.0,
        resume_interrupted: bool = False,
        environment: Mapping[str, str] | None = None,
        on_end: Callable[[Job], Awaitable[None]] | None = None,
    ) -> None:
        self.folder = folder
        self._url = (
            _checked_url(database_url)
            if database_url
            else f"sqlite:///{folder.absolute() / 'jobs.sqlite'}"
        )
        self._slots = slots
        self._grace_seconds = grace_seconds
        self._resume_interrupted = resume_interrupted
        self._environment = environment
        self._on_end = on_end
        self._store: JobStore | None = None
        self._tails: Tails | None = None
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
        self._store = await JobStore(self._url).open()
        self._tails = Tails(self._store)

    async def start(self) -> None:
        """Take up the queue."""
        from ml.jobs.local import LocalExecutor
        from ml.jobs.scheduler import Scheduler

        executor = LocalExecutor(
            self._url,
            self.jobs_folder,
            grace_seconds=self._grace_seconds,
            environment=self._environment,
        )
        self._scheduler = Scheduler(
            self.store,
            executor,
            slots=self._slots,
            grace_seconds=self._grace_seconds,
            resume_interrupted=self._resume_interrupted,
            on_end=self._on_end,
        )
        await self._scheduler.start()

    async def close(self) -> None:
        """Let running jobs save, and close the store; the engine can be opened again."""
        if self._scheduler is not None:
            await self._scheduler.stop()
        if self._store is not None:
            await self._store.close()
        self._scheduler = self._store = self._tails = None


def _checked_url(url: str) -> str:
    from ml.jobs.database import normal_url

    try:
        return normal_url(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"database_url: {error}") from None
