"""`/jobs/ID/files`: what a run has written and made, to be downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from quart import Response
from quart_schema import document_response

from ml.finetuning.run_files import RunFile
from ml.jobs.job import Job
from ml.serving.answers import FileContent
from ml.serving.file_reply import file_reply
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import RunFiles

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_run_files(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    @app.get("/jobs/<job_id>/files")
    @document_response(RunFiles)
    async def run_files(job_id: str) -> dict[str, Any]:
        """Return the files of a job: name, kind, size, SHA-256, and the address of each."""
        job = await workflow.jobs.get(job_id)
        return {"job_id": job.id, "files": await workflow.in_thread(_views, workflow, job)}

    @app.get("/jobs/<job_id>/files/<path:name>")
    @document_response(FileContent)
    async def run_file(job_id: str, name: str) -> Response:
        """Send a file of a job; takes `Range`, and `ETag` is its SHA-256."""
        job = await workflow.jobs.get(job_id)
        file = await workflow.in_thread(workflow.run_files.find, job, name)
        digest = await workflow.in_thread(workflow.run_files.sha256, file)
        return await file_reply(file.path, size=file.size, sha256=digest, name=file.name)


def _views(workflow: UnslothTrainerWorkflow, job: Job) -> list[dict[str, Any]]:
    files = workflow.run_files
    return [_view(job, file, files.sha256(file)) for file in files.list(job)]


def _view(job: Job, file: RunFile, digest: str) -> dict[str, Any]:
    return {
        "name": file.name,
        "kind": file.kind,
        "bytes": file.size,
        "sha256": digest,
        "url": f"/jobs/{quote(job.id, safe='')}/files/{quote(file.name)}",
    }
