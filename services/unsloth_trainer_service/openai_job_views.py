"""How OpenAI's clients see jobs, their events and their checkpoints.

Source: OpenAI's API reference, "The fine-tuning job object" and its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml.jobs.event_type import EventType
from ml.jobs.job import Job, JobEvent, JobState
from unsloth_trainer_service.openai_job_request import HYPERPARAMETERS, LEARNING_RATE

if TYPE_CHECKING:
    from ml.finetuning.checkpoints import Checkpoint

__all__ = ["checkpoint_views", "event_view", "tuning_view"]

_STATUS = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "running",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.INTERRUPTED: "paused",
}


def tuning_view(job: Job) -> dict[str, Any]:
    """Return a job."""
    wished, result = job.request, job.result or {}
    error = None
    if job.state is JobState.FAILED:
        error = {"code": "job_failed", "message": job.reason, "param": None}
    hyperparameters = _hyperparameters(wished)
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
        "validation_file": wished.get("validation_dataset_name"),
        "result_files": result.get("result_files", []),
        "trained_tokens": result.get("trained_tokens"),
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "seed": wished.get("seed"),
        "error": error,
        "integrations": [],
        "metadata": wished.get("metadata"),
    }


def _hyperparameters(wished: dict[str, Any]) -> dict[str, Any]:
    numbers = {theirs: wished.get(ours) for theirs, ours in HYPERPARAMETERS.items()}
    epochs, rate = numbers["n_epochs"], numbers["learning_rate_multiplier"]
    if isinstance(epochs, float) and epochs.is_integer():
        numbers["n_epochs"] = int(epochs)
    if rate is not None:
        numbers["learning_rate_multiplier"] = round(rate / LEARNING_RATE, 9)
    return numbers


def _estimated_finish(job: Job) -> int | None:
    left = job.progress.get("eta_seconds")
    if job.state is not JobState.RUNNING or left is None or job.heartbeat_at is None:
        return None
    return int(job.heartbeat_at + left)


def event_view(event: JobEvent) -> dict[str, Any]:
    """Return an event of a job."""
    is_metrics = event.type == EventType.PROGRESS
    data = event.data
    message = data.get("message") or (_progress(data) if is_metrics else event.type)
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": "error" if event.type == EventType.ERROR else "info",
        "message": message,
        "type": "metrics" if is_metrics else "message",
        "data": data,
    }


def _progress(data: dict[str, Any]) -> str:
    step = f"Step {data.get('step')}/{data.get('total_steps')}"
    if "eval_loss" in data:
        return f"{step}: validation loss={data['eval_loss']}"
    return f"{step}: training loss={data.get('loss')}"


def checkpoint_views(job: Job, kept: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """Return the tuned model of a job that succeeded, and the checkpoints that are kept to go on
    from, newest first.

    A checkpoint has a name of its own, under which nothing answers: its files are for the job.
    """
    result, name = job.result, job.request.get("output_dir")
    views, published = [], None
    if result is not None:
        published = result.get("training", {}).get("adapter_step", job.progress.get("step", 0))
        numbers = next((one.numbers for one in kept if one.step == published), job.progress)
        at = job.ended_at or job.created_at
        views.append(_checkpoint_view(job, f"ftckpt-{job.id}", name, published, at, numbers))
    for one in reversed(kept):
        if one.step != published:
            own = (f"ftckpt-{job.id}-{one.step}", f"{name}:ckpt-step-{one.step}")
            views.append(_checkpoint_view(job, *own, one.step, one.written_at, one.numbers))
    return views


def _checkpoint_view(
    job: Job, checkpoint_id: str, name: Any, step: int, at: float, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": checkpoint_id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(at),
        "fine_tuned_model_checkpoint": name,
        "fine_tuning_job_id": job.id,
        "step_number": step,
        "metrics": {
            "step": step,
            "train_loss": numbers.get("loss"),
            "train_mean_token_accuracy": numbers.get("token_accuracy"),
            "valid_loss": numbers.get("eval_loss"),
            "valid_mean_token_accuracy": numbers.get("eval_token_accuracy"),
        },
    }
