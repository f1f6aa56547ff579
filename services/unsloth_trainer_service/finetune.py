"""`/finetune` and `/jobs`: fine-tuning on a data set, its jobs and logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quart import Response, request
from quart_schema import document_request

from ml.errors import InvalidInput
from ml.finetuning.request import FinetuningRequest
from ml.jobs.job import JobState, StopRequest, new_job_id
from ml.serving.job_views import stream_events, view_of
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow, read_request
from unsloth_trainer_service.body import json_body, refuse_body
from unsloth_trainer_service.dashboard import dashboard_url

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

LOG_FILE = "training_logs.jsonl"
_RECENT_LOGS = 50
_MOST_JOBS = 100


def add_finetune(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses of the document of the finetuning API."""

    @app.post("/finetune")
    @document_request(FinetuningRequest)
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

    @app.get("/jobs")
    async def jobs() -> dict[str, Any]:
        """Return the jobs, newest first; `?status=` and `?after=` narrow them."""
        states = [_state(name) for name in request.args.getlist("status")] or None
        found = await workflow.jobs.list(states, _MOST_JOBS, request.args.get("after"))
        return {"jobs": [await view_of(workflow.jobs, job) for job in found]}

    @app.get("/jobs/<job_id>")
    async def job_state(job_id: str) -> dict[str, Any]:
        """Return a job with its newest log entries."""
        view = await view_of(workflow.jobs, await workflow.jobs.get(job_id))
        logs = await workflow.in_thread(read_logs, workflow, job_id, _RECENT_LOGS)
        return {**view, "logs": logs}

    @app.get("/jobs/<job_id>/events")
    async def job_events(job_id: str) -> Response:
        """Stream a job's events, as /train/<job_id>/events does."""
        return await stream_events(workflow.jobs, workflow.tails, job_id)

    @app.get("/logs/<job_id>")
    async def logs(job_id: str) -> dict[str, Any]:
        """Return a job's log entries; `?limit=` the newest of them."""
        job = await workflow.jobs.get(job_id)
        limit = _limit(request.args.get("limit"))
        entries = await workflow.in_thread(read_logs, workflow, job.id, limit)
        return {"job_id": job.id, "logs": entries}

    @app.delete("/jobs/<job_id>")
    async def cancel(job_id: str) -> dict[str, Any]:
        """Cancel a job: a running one finishes its step and saves first."""
        await refuse_body()
        job = await workflow.jobs.request_stop(job_id, StopRequest.CANCEL)
        waits = job.state is JobState.RUNNING
        message = "Job saves and stops" if waits else "Job cancelled"
        return {"job_id": job.id, "status": job.state.value, "message": message}

    @app.post("/jobs/<job_id>/resume")
    async def resume(job_id: str) -> tuple[dict[str, Any], int]:
        """Queue a job again that did not succeed; it goes on from its last checkpoint."""
        await refuse_body()
        job = await workflow.jobs.requeue(job_id)
        return {"job_id": job.id, "status": job.state.value, "message": "Job is queued again"}, 202


def read_logs(
    workflow: UnslothTrainerWorkflow, job_id: str, limit: int | None
) -> list[dict[str, Any]]:
    """Return the entries of a job's log, the newest `limit` of them."""
    file = Path(workflow.working_path) / "jobs" / job_id / LOG_FILE
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    whole = [line for line in lines if line.endswith("}")]  # the last one may be half written
    return [json.loads(line) for line in (whole[-limit:] if limit else whole)]


def _state(name: str) -> JobState:
    try:
        return JobState(name)
    except ValueError:
        raise InvalidInput(f"status: {name!r} is none of {', '.join(JobState)}") from None


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not int(text):
        raise InvalidInput("limit: give a whole number over 0")
    return int(text)
