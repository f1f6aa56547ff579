"""Proofs as jobs: each in a process of its own, its input beside its record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ml.errors import NotFound
from ml.jobs.engine import JobEngine
from ml.jobs.job import IllegalTransition, Job, JobState, StopRequest, new_job_id
from ml.jobs.settings import JobSettings
from ml.jobs.shielded import ShieldedTasks
from ml.proving import job as proof_job
from ml.proving.circuit_input import input_document
from ml.proving.job_input import JobInput
from ml.proving.prover import Prover

if TYPE_CHECKING:
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails

__all__ = ["ProofJobs", "can_resume"]

#: An input without a record is one that is just being queued, unless it is older.
_QUEUED_WITHIN_SECONDS = 60.0


class ProofJobs:
    """Queues proofs under a folder; `proved` is told the seconds of each one's stages.

    Raises `ConfigurationError` where the folder cannot be made. See `JobEngine` for the rest.
    """

    def __init__(
        self,
        folder: Path,
        artifacts: Sequence[Path],
        settings: JobSettings,
        *,
        memory_limit_bytes: int | None,
        proved: Callable[[Mapping[str, float]], None],
    ) -> None:
        self._proved = proved
        #: A client that leaves in between would leave an input that nobody needs.
        self._changes = ShieldedTasks()
        self._engine = JobEngine(
            folder,
            settings,
            environment=proof_job.job_environment(artifacts, memory_limit_bytes),
            on_end=self._ended,
        )
        self._engine.make_folder()

    @property
    def store(self) -> JobStore:
        """The records. Raises `NotReady` before `open`."""
        return self._engine.store

    @property
    def tails(self) -> Tails:
        """The events as they come. Raises `NotReady` before `open`."""
        return self._engine.tails

    async def open(self) -> None:
        """Open the records, remove inputs that nobody needs, and take up the queue."""
        await self._engine.open()
        await self._discard_left_inputs()
        await self._engine.start()

    async def close(self) -> None:
        """Interrupt the proofs that run, and close the records."""
        await self._changes.join()
        await self._engine.close()

    async def submit(self, prover: Prover, tensors: Sequence[npt.NDArray[Any]]) -> Job:
        """Queue a proof. Raises `InvalidInput` for what the circuit does not take."""
        document = await asyncio.to_thread(input_document, prover.artifact.manifest, tensors)
        return await self._changes.run(self._queue(document, proof_job.job_request(prover)))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a proof: one that runs ends within seconds. Raises `IllegalTransition`."""
        return await self._changes.run(self._cancel(job_id))

    async def resume(self, job_id: str) -> Job:
        """Queue an interrupted proof again. Raises `IllegalTransition` for any other."""
        job = await self.store.get(job_id)
        if not can_resume(job):
            raise IllegalTransition(
                f"job {job_id} is {job.state}; only an interrupted proof is resumed: the input of "
                "others goes with their end, so send it again"
            )
        return await self.store.requeue(job_id)

    async def _queue(self, document: str, request: dict[str, Any]) -> Job:
        job_id = new_job_id("proof")
        given = self._input_of(job_id)
        try:
            await asyncio.to_thread(given.write, document)
            return await self.store.create(proof_job.__name__, request, job_id)
        except Exception:
            await asyncio.to_thread(given.discard)
            raise

    async def _cancel(self, job_id: str) -> Job:
        job = await self.store.request_stop(job_id, StopRequest.CANCEL)
        if job.state is JobState.CANCELLED:
            await self._discard_input(job)
        return job

    async def _ended(self, job: Job) -> None:
        if not _is_over(job):
            return
        await self._discard_input(job)
        if job.result is not None:
            self._proved(job.result["seconds"])

    async def _discard_left_inputs(self) -> None:
        """Remove the inputs of proofs that ended while nobody looked after them."""
        for folder in await asyncio.to_thread(_folders_with_input, self._engine.jobs_folder):
            try:
                over = _is_over(await self.store.get(folder.name))
            except NotFound:
                over = True
            if over:
                await asyncio.to_thread(JobInput(folder).discard)

    async def _discard_input(self, job: Job) -> None:
        await asyncio.to_thread(self._input_of(job.id).discard)

    def _input_of(self, job_id: str) -> JobInput:
        return JobInput(self._engine.jobs_folder / job_id)


def can_resume(job: Job) -> bool:
    """Return whether a proof can be queued again: its input is there as long as it can."""
    return job.state is JobState.INTERRUPTED


def _is_over(job: Job) -> bool:
    return job.state.is_final and not can_resume(job)


def _folders_with_input(root: Path) -> list[Path]:
    latest = time.time() - _QUEUED_WITHIN_SECONDS
    return [
        folder
        for folder in root.iterdir()
        if (written := JobInput(folder).written_at()) is not None and written < latest
    ]
