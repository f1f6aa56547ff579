"""`/train`: query-based training, its state and its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Response
from quart_schema import document_request

from ml.finetuning.train_request import TrainRequest
from ml.jobs.job import Job, JobState
from ml.serving.job_views import event_response, event_view, job_view, last_event_id
from ml.workflows.training.unsloth_trainer_workflow import (
    UnslothTrainerWorkflow,
    new_job_id,
    read_request,
)
from unsloth_trainer_service.body import json_body

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

#: The most events of a history's page.
_PAGE = 1000


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
        return await view_of(workflow, await workflow.jobs.get(job_id))

    @app.get("/train/<job_id>/events")
    async def train_events(job_id: str) -> Response:
        """Stream the events that were and that come; ends when the training has ended."""
        return await stream_events(workflow, job_id)

    @app.get("/train/<job_id>/events/history")
    async def train_history(job_id: str) -> dict[str, Any]:
        """Return the events behind `after`, a thousand at most."""
        job = await workflow.jobs.get(job_id)
        events = await workflow.jobs.events(job_id, last_event_id(), _PAGE)
        return {
            "job_id": job.id,
            "status": job.state.value,
            "events": [event_view(event) for event in events],
        }


async def view_of(workflow: UnslothTrainerWorkflow, job: Job) -> dict[str, Any]:
    """Return a job with its place in the queue."""
    waits = job.state is JobState.QUEUED
    return job_view(job, position=await workflow.jobs.position(job.id) if waits else None)


async def stream_events(workflow: UnslothTrainerWorkflow, job_id: str) -> Response:
    """Return a job's events as server-sent ones, behind those that the client has."""
    after = last_event_id()
    state, last = await workflow.jobs.last_event(job_id)
    if state.is_final and after and after >= last:
        return Response(status=204)  # which tells an EventSource not to come again
    first = await view_of(workflow, await workflow.jobs.get(job_id))
    return event_response(workflow.tails.events(job_id, after), first)
