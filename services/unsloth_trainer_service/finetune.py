"""`/finetune` and `/jobs`: fine-tuning on a data set, its jobs and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from quart_schema import document_querystring, document_request, document_response

from ml.finetuning.request import FinetuningRequest
from ml.finetuning.request_body import read_request
from ml.jobs.job import Job, new_job_id
from ml.serving.job_views import JobRecord
from ml.serving.jobs import JobForm, add_job_routes, cancelled
from ml.serving.json_body import json_body
from ml.serving.query import Query
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import JobLogs, Queued
from unsloth_trainer_service.dashboard import dashboard_url

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

_RECENT_LOGS = 50
#: More than any training has.
_ALL_LOGS = 10**9


class LogsQuery(Query):
    """How much of a log is wanted."""

    limit: int = Field(
        default=_ALL_LOGS, ge=1, le=_ALL_LOGS, description="How many of the newest, at most"
    )


class LoggedForm(JobForm):
    """Shows a job with its newest log entries."""

    def __init__(self, workflow: UnslothTrainerWorkflow) -> None:
        super().__init__(workflow.job_engine)
        self._workflow = workflow

    async def details(self, job: Job) -> dict[str, Any]:
        """Return a job with its newest log entries."""
        logs = await self._workflow.in_thread(self._workflow.logs, job.id, _RECENT_LOGS)
        return {**await self.view(job), "logs": logs}


def add_finetune(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses of the document of the finetuning API."""

    @app.post("/finetune")
    @document_request(FinetuningRequest)
    @document_response(Queued)
    async def finetune() -> dict[str, Any]:
        """Queue a fine-tuning, once its data was looked at."""
        wished = read_request(await json_body())
        job, report = await workflow.submit_and_tell(wished, job_id=new_job_id("ft"))
        return {
            "job_id": job.id,
            "status": job.state.value,
            "message": "Finetuning job has been queued and will start shortly",
            "dashboard_url": dashboard_url(app),
            "data": report.counts() if report is not None else None,
        }

    form = LoggedForm(workflow)
    add_job_routes(app, "/jobs", form)

    @app.delete("/jobs/<job_id>")
    @document_response(JobRecord)
    async def delete_job(job_id: str) -> dict[str, Any]:
        """Cancel a job, as POST /jobs/ID/cancel does; its record stays."""
        return await cancelled(form, job_id)

    @app.get("/logs/<job_id>")
    @document_querystring(LogsQuery)
    @document_response(JobLogs)
    async def logs(job_id: str) -> dict[str, Any]:
        """Return a job's log entries, oldest first."""
        limit = LogsQuery.asked().limit
        job = await workflow.jobs.get(job_id)
        return {"job_id": job.id, "logs": await workflow.in_thread(workflow.logs, job.id, limit)}
