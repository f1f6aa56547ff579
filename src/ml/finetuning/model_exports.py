"""Exports of tuned models that are there, as jobs: what is known to fail is refused first."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ml.errors import NotFound, UnprocessableInput
from ml.finetuning.export_request import ExportJobRequest, ExportRequest
from ml.finetuning.failures import OutputTaken
from ml.finetuning.names import output_name, same_name
from ml.finetuning.settings import TrainerSettings
from ml.jobs.engine import JobEngine
from ml.jobs.executors.choice import EXECUTORS
from ml.jobs.job import Job, JobState, new_job_id
from ml.jobs.remote_files import FilesAway

if TYPE_CHECKING:
    from ml.finetuning.output import Output
    from ml.finetuning.shared_files import SharedFiles

__all__ = ["EXPORT", "ModelExports"]

#: The kind of these jobs: the module that runs them.
EXPORT = "ml.finetuning.export_job"


class ModelExports:
    """Queues exports with the trainings of a service, `shared` where its hosts share no folder."""

    def __init__(
        self, settings: TrainerSettings, engine: JobEngine, shared: SharedFiles | None
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._shared = shared
        self._one_at_a_time = asyncio.Lock()  # two that ask for the same

    async def submit(self, name: str, wish: ExportRequest) -> Job:
        """Queue exports of a tuned model.

        Raises `NotFound` where there is no such model, `OutputTaken` for an export that is there
        or under way, `UnprocessableInput` for what cannot be made here, and `StorageFull`.
        """
        self._settings.require_heeded(wish.resources)
        async with self._one_at_a_time:
            run = await self.run_of(name)
            await self._require_free(name, wish)
            asked = ExportJobRequest.of(wish, name, run.id, run.request)
            await asyncio.to_thread(self._require_feasible, asked)
            return await self._engine.store.create(
                EXPORT, asked.model_dump(mode="json"), new_job_id("export")
            )

    async def ended(self, job: Job) -> None:
        """Remove what the end of a job in mid-export has left."""
        if job.kind != EXPORT or job.state is JobState.SUCCEEDED:
            return
        # Another attempt has names of its own on a disk, but not where hosts share files.
        if self._shared is None or job.state is not JobState.INTERRUPTED:
            await asyncio.to_thread(self._discard_partial, job)

    async def run_of(self, name: str) -> Job:
        """Return the job that made a model, to which all belongs that comes of it.

        Raises `NotFound` where there is no such model, `UnprocessableInput` if no job made it.
        """
        owner = await asyncio.to_thread(self._owner_of, name)
        with suppress(NotFound):
            if owner:
                return await self._engine.store.get(owner)
        raise UnprocessableInput(
            f"{name!r} was made by no run of this service, among whose files this would be kept"
        )

    def _owner_of(self, name: str) -> str | None:
        from ml.finetuning.output import ADAPTER_CONFIG, owner_of

        try:
            if output_name(name) != name:
                raise _missing(name)
        except ValueError:
            raise _missing(name) from None
        if self._shared is not None:
            owner = self._shared.models.run_of(name)
            if owner is None:
                raise _missing(name)
            return owner
        if not (self._settings.output_path / name / ADAPTER_CONFIG).is_file():
            raise _missing(name)
        return owner_of(self._settings.output_path / name)

    async def _require_free(self, name: str, wish: ExportRequest) -> None:
        """Raise `OutputTaken` if a job that has not ended makes one of the exports, or the model.

        Those that are there are found with the rest of what cannot be.
        """
        from ml.finetuning.output import names_made

        made = names_made({"model_name": name, "exports": wish.exports})
        for job in await self._engine.store.unfinished():
            if job.request.get("output_dir") == name:
                raise OutputTaken(f"job {job.id}, which is {job.state}, makes {name!r}")
            if theirs := same_name(made, names_made(job.request)):
                raise OutputTaken(
                    f"exports: job {job.id}, which is {job.state}, makes {theirs!r} already"
                )

    def _require_feasible(self, asked: ExportJobRequest) -> None:
        from ml.finetuning.exports import require_room
        from ml.finetuning.feasibility import require_feasible
        from ml.finetuning.start import Start

        settings = self._settings
        if self._shared is not None:
            self._shared.models.fetch(asked.model_name)
        self._output(asked, "", "").require_no_export(asked.exports)
        start = Start.of(asked.model_name, settings.models_path)
        if start.adapter is None:
            raise _missing(asked.model_name)
        start.require()
        require_feasible(asked.parameters(), start)
        if self._shared is None:
            require_room(settings.output_path, start.base, asked.exports)
        elif not EXECUTORS[settings.executor].is_elsewhere:
            require_room(settings.working_path, start.base, asked.exports)

    def _discard_partial(self, job: Job) -> None:
        asked = ExportJobRequest.model_validate(job.request)
        with suppress(FilesAway):  # what is left there is known to be no export
            for attempt in range(1, job.attempt + 1):
                output = self._output(asked, job.id, f"{job.id}-{attempt}")
                output.discard_partial(asked.exports)

    def _output(self, asked: ExportJobRequest, job_id: str, maker: str) -> Output:
        from ml.finetuning.export_output import export_output

        folder = self._engine.jobs_folder / job_id
        return export_output(asked, folder, self._settings, self._shared, maker=maker)


def _missing(name: str) -> NotFound:
    return NotFound(f"There is no tuned model {name[:100]!r} here.")
