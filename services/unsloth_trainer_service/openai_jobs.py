"""`/v1/fine_tuning/jobs`: the same jobs as OpenAI's clients know them.

Source: OpenAI's API reference, "Fine-tuning".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from quart import request
from quart_schema import document_request

from ml.errors import UnprocessableInput
from ml.finetuning.request import FinetuningRequest
from ml.jobs.job import Job, JobEvent, JobState, StopRequest, new_job_id
from ml.serving.client_request import ClientRequest
from ml.serving.job_views import page_limit
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow, read_request
from unsloth_trainer_service.openai_errors import in_openais_words

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

_STATUS = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "running",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.INTERRUPTED: "paused",
}
_LEVELS = {"error": "error"}
_MOST_EVENTS = 1000


class JobRequest(ClientRequest):
    """The body of `POST /v1/fine_tuning/jobs`."""

    neutral = {"method": (), "integrations": ([],)}  # noqa: RUF012 (a table that nobody changes)

    model: str
    training_file: str = Field(description="The id of an uploaded file, or a data set's name")
    validation_file: None = None
    hyperparameters: dict[str, Any] | None = Field(
        default=None,
        description="n_epochs, batch_size, learning_rate_multiplier, or any of /finetune's",
    )
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    metadata: dict[str, str] | None = None

    def finetuning_request(self, output_dir: str) -> FinetuningRequest:
        """Return what it asks for; "auto" leaves a parameter's default."""
        given = {k: v for k, v in (self.hyperparameters or {}).items() if v != "auto"}
        fields: dict[str, Any] = {"max_steps": -1}
        if "n_epochs" in given:
            fields["num_train_epochs"] = given.pop("n_epochs")
        if "batch_size" in given:
            fields["per_device_train_batch_size"] = given.pop("batch_size")
            fields["gradient_accumulation_steps"] = 1  # a batch is then what it says
        if "learning_rate_multiplier" in given:
            fields["learning_rate"] = 2e-4 * _number(given.pop("learning_rate_multiplier"))
        if self.seed is not None:
            fields["seed"] = self.seed
        return read_request(
            {
                **fields,
                **given,
                "model_name": self.model,
                "dataset_name": self.training_file,
                "output_dir": output_dir,
            }
        )


def add_fine_tuning_jobs(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    @app.post("/v1/fine_tuning/jobs")
    @document_request(JobRequest)
    @in_openais_words
    async def create_tuning() -> dict[str, Any]:
        """Queue a fine-tuning."""
        asked = JobRequest.read(await request.get_data())
        job_id = new_job_id("ftjob")
        name = f"{asked.suffix}-{job_id[-6:]}" if asked.suffix else job_id
        job = await workflow.submit(asked.finetuning_request(name), job_id=job_id)
        return _view(job)

    @app.get("/v1/fine_tuning/jobs")
    @in_openais_words
    async def list_tunings() -> dict[str, Any]:
        """Return the jobs, newest first, a page at a time."""
        limit = page_limit(20)
        jobs = await workflow.jobs.list(None, limit + 1, request.args.get("after"))
        return _page([_view(job) for job in jobs], limit)

    @app.get("/v1/fine_tuning/jobs/<job_id>")
    @in_openais_words
    async def tuning(job_id: str) -> dict[str, Any]:
        """Return a job."""
        return _view(await workflow.jobs.get(job_id))

    @app.post("/v1/fine_tuning/jobs/<job_id>/cancel")
    @in_openais_words
    async def cancel_tuning(job_id: str) -> dict[str, Any]:
        """Cancel a job: a running one finishes its step and saves first."""
        return _view(await workflow.jobs.request_stop(job_id, StopRequest.CANCEL))

    @app.post("/v1/fine_tuning/jobs/<job_id>/pause")
    @in_openais_words
    async def pause_tuning(job_id: str) -> dict[str, Any]:
        """Let a running job save and stop, to be resumed."""
        return _view(await workflow.jobs.request_stop(job_id, StopRequest.INTERRUPT))

    @app.post("/v1/fine_tuning/jobs/<job_id>/resume")
    @in_openais_words
    async def resume_tuning(job_id: str) -> dict[str, Any]:
        """Queue a paused job again; it goes on from its last checkpoint."""
        return _view(await workflow.jobs.requeue(job_id))

    @app.get("/v1/fine_tuning/jobs/<job_id>/events")
    @in_openais_words
    async def tuning_events(job_id: str) -> dict[str, Any]:
        """Return a job's events, newest first, a page at a time."""
        limit = page_limit(20)
        await workflow.jobs.get(job_id)
        found = await workflow.jobs.events(job_id, 0, _MOST_EVENTS)
        views = [_event(event) for event in reversed(found)]
        return _page(_behind(views, request.args.get("after"))[: limit + 1], limit)

    @app.get("/v1/fine_tuning/jobs/<job_id>/checkpoints")
    @in_openais_words
    async def tuning_checkpoints(job_id: str) -> dict[str, Any]:
        """Return the tuned model of a job that succeeded, as its last checkpoint."""
        job = await workflow.jobs.get(job_id)
        return _page([_checkpoint(job)] if job.result is not None else [], 10)


def _view(job: Job) -> dict[str, Any]:
    wished = job.request
    error = None
    if job.state is JobState.FAILED:
        error = {"code": "job_failed", "message": job.reason, "param": None}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": int(job.ended_at) if job.ended_at else None,
        "estimated_finish": _estimated_finish(job),
        "model": wished.get("model_name"),
        "fine_tuned_model": wished.get("output_dir") if job.state is JobState.SUCCEEDED else None,
        "organization_id": "operator",
        "status": _STATUS[job.state],
        "training_file": wished.get("dataset_name") or "",
        "validation_file": None,
        "result_files": [],
        "trained_tokens": (job.result or {}).get("trained_tokens"),
        "hyperparameters": {
            "n_epochs": wished.get("num_train_epochs"),
            "batch_size": wished.get("per_device_train_batch_size"),
            "learning_rate_multiplier": wished.get("learning_rate", 0) / 2e-4,
        },
        "seed": wished.get("seed"),
        "error": error,
        "metadata": None,
    }


def _estimated_finish(job: Job) -> int | None:
    left = job.progress.get("eta_seconds")
    if job.state is not JobState.RUNNING or left is None or job.heartbeat_at is None:
        return None
    return int(job.heartbeat_at + left)


def _event(event: JobEvent) -> dict[str, Any]:
    is_metrics = event.type == "progress"
    data = event.data
    message = data.get("message") or (
        f"Step {data.get('step')}/{data.get('total_steps')}: training loss={data.get('loss')}"
        if is_metrics
        else event.type
    )
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": _LEVELS.get(event.type, "info"),
        "message": message,
        "type": "metrics" if is_metrics else "message",
        "data": data,
    }


def _checkpoint(job: Job) -> dict[str, Any]:
    numbers = job.progress
    return {
        "id": f"ftckpt-{job.id}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(job.ended_at or job.created_at),
        "fine_tuned_model_checkpoint": job.request.get("output_dir"),
        "fine_tuning_job_id": job.id,
        "step_number": numbers.get("step", 0),
        "metrics": {
            "step": numbers.get("step"),
            "train_loss": numbers.get("loss"),
            "valid_loss": numbers.get("eval_loss"),
        },
    }


def _page(data: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    return {"object": "list", "data": data[:limit], "has_more": len(data) > limit}


def _behind(views: list[dict[str, Any]], after: str | None) -> list[dict[str, Any]]:
    ids = [view["id"] for view in views]
    return views[ids.index(after) + 1 :] if after in ids else views


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnprocessableInput('learning_rate_multiplier: give a number or "auto"')
    return value
