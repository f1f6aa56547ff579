"""`/jobs/ID/files`, `/v1/models/NAME/files`: what a run has written and made, to be downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from quart import Response
from quart_schema import document_response

from ml.finetuning.run_files import RunFile, find
from ml.jobs.stored_file import StoredFile
from ml.serving.answers import FileContent
from ml.serving.file_reply import file_reply
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import ModelFiles, RunFiles

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_run_files(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    async def files_of_job(job_id: str) -> list[RunFile]:
        job = await workflow.jobs.get(job_id)
        return await workflow.in_thread(workflow.tuned.run_files.list, job)

    @app.get("/jobs/<job_id>/files")
    @document_response(RunFiles)
    async def run_files(job_id: str) -> dict[str, Any]:
        """Return the files of a job: name, kind, size, SHA-256, and the address of each."""
        files = await files_of_job(job_id)
        path = f"/jobs/{quote(job_id, safe='')}/files/"
        return {"job_id": job_id, "files": await workflow.in_thread(_views, workflow, files, path)}

    @app.get("/jobs/<job_id>/files/<path:name>")
    @document_response(FileContent)
    async def run_file(job_id: str, name: str) -> Response:
        """Send a file of a job; takes `Range`, and `ETag` is its SHA-256."""
        file = find(await files_of_job(job_id), name)
        return await stored_file_reply(workflow, file.stored, name=file.name)

    @app.get("/v1/models/<model>/files")
    @document_response(ModelFiles)
    async def model_files(model: str) -> dict[str, Any]:
        """Return the files of a tuned model, and of the run that made it, as those of a job."""
        files = await workflow.tuned.files(model)
        path = f"/v1/models/{quote(model, safe='')}/files/"
        return {"model": model, "files": await workflow.in_thread(_views, workflow, files, path)}

    @app.get("/v1/models/<model>/files/<path:name>")
    @document_response(FileContent)
    async def model_file(model: str, name: str) -> Response:
        """Send a file of a tuned model; takes `Range`, and `ETag` is its SHA-256."""
        file = find(await workflow.tuned.files(model), name)
        return await stored_file_reply(workflow, file.stored, name=file.name)


async def stored_file_reply(
    workflow: UnslothTrainerWorkflow, stored: StoredFile, *, name: str
) -> Response:
    """Return a file to a client that keeps it as `name`."""
    digest = await workflow.in_thread(workflow.tuned.hashes.sha256, stored)
    return await file_reply(stored.open, size=stored.size, sha256=digest, name=name)


def _views(
    workflow: UnslothTrainerWorkflow, files: list[RunFile], path: str
) -> list[dict[str, Any]]:
    return [
        {
            "name": file.name,
            "kind": file.kind,
            "bytes": file.stored.size,
            "sha256": workflow.tuned.hashes.sha256(file.stored),
            "url": path + quote(file.name),
        }
        for file in files
    ]
