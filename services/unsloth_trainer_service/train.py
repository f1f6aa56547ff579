"""`/train`: query-based training, its state and its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart_schema import document_request, document_response

from ml.finetuning.request_body import read_request
from ml.finetuning.train_request import TrainRequest
from ml.jobs.job import new_job_id
from ml.serving.job_views import JobRecord
from ml.serving.jobs import JobForm, add_job_routes
from ml.serving.json_body import json_body
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_train(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses of the document of query-based training."""

    @app.post("/train")
    @document_request(TrainRequest)
    @document_response(JobRecord, 202)
    async def train() -> tuple[dict[str, Any], int]:
        """Queue a training on the results of a query."""
        job = await workflow.submit(read_request(await json_body()), job_id=new_job_id("train"))
        return {
            "job_id": job.id,
            "status": job.state.value,
            "message": "Training job has been queued and will start shortly",
        }, 202

    add_job_routes(app, "/train", JobForm(workflow.job_engine))
