"""`/v1/models/NAME` of a tuned model: removed as OpenAI's clients do it, and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from quart_schema import document_request, document_response

from ml.finetuning.export_request import ExportRequest
from ml.serving.job_views import JobRecord
from ml.serving.json_body import json_body
from ml.serving.openai.answers import Deleted
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_models(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses; ml.serving has those that read."""

    @app.delete("/v1/models/<path:name>")
    @document_response(Deleted)
    async def delete_model(name: str) -> dict[str, Any]:
        """Remove a tuned model and its exports, unless a job needs it."""
        await workflow.delete_model(name)
        return {"id": name, "object": "model", "deleted": True}

    @app.post("/v1/models/<path:name>/export")
    @document_request(ExportRequest)
    @document_response(JobRecord, 202)
    async def export_model(name: str) -> tuple[dict[str, Any], int]:
        """Queue the export of a tuned model in further forms, as a job of /jobs."""
        job = await workflow.exports.submit(name, ExportRequest.read(await json_body()))
        return {
            "job_id": job.id,
            "status": job.state.value,
            "message": "Export has been queued and will start shortly",
            "files_url": f"/jobs/{quote(job.request['run_id'], safe='')}/files",
        }, 202
