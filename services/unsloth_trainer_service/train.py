"""`/train`: query-based training, its state and its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Response
from quart_schema import document_request

from ml.finetuning.train_request import TrainRequest
from ml.jobs.job import new_job_id
from ml.serving.job_views import event_history, stream_events, view_of
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow, read_request
from unsloth_trainer_service.body import json_body

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_train(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses of the document of query-based training."""

    @app.post("/train")
    @document_request(TrainRequest)
    async def train() -> tuple[dict[str, Any], int]:
        """Queue a training on the results of a query."""
        job = await workflow.submit(read_request(await json_body()), job_id=new_job_id("train"))
        return {
            "job_id": job.id,
            "status": job.state.value,
            "message": "Training job has been queued and will start shortly",
        }, 202

    @app.get("/train/<job_id>")
    async def train_state(job_id: str) -> dict[str, Any]:
        """Return the state of a training."""
        return await view_of(workflow.jobs, await workflow.jobs.get(job_id))

    @app.get("/train/<job_id>/events")
    async def train_events(job_id: str) -> Response:
        """Stream the events that were and that come; ends when the training has ended."""
        return await stream_events(workflow.jobs, workflow.tails, job_id)

    @app.get("/train/<job_id>/events/history")
    async def train_history(job_id: str) -> dict[str, Any]:
        """Return the events behind `after`, a thousand at most."""
        return await event_history(workflow.jobs, job_id)
