"""What people think of a tuned model's answers, kept with the run that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from quart_schema import document_request, document_response

from ml.errors import InvalidInput, describe_faults
from ml.finetuning.feedback import Feedback, FeedbackCounts, RunFeedback
from ml.serving.json_body import json_body
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_feedback(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    def feedback_of(job_id: str) -> RunFeedback:
        return RunFeedback(workflow.job_engine.jobs_folder / job_id, workflow.shared_files)

    @app.post("/v1/models/<path:name>/feedback")
    @document_request(Feedback)
    @document_response(FeedbackCounts)
    async def give_feedback(name: str) -> dict[str, Any]:
        """Keep what somebody thinks of a tuned model's answer; returns what all think by now."""
        body = await json_body()
        try:
            feedback = Feedback.model_validate(body)
        except ValidationError as error:
            raise InvalidInput(describe_faults(error)) from None
        given = feedback_of((await workflow.exports.run_of(name)).id)
        await workflow.in_thread(given.add, feedback)
        return (await workflow.in_thread(given.counts)).model_dump()

    @app.get("/jobs/<job_id>/feedback")
    @document_response(FeedbackCounts)
    async def feedback_of_run(job_id: str) -> dict[str, Any]:
        """Return how many answers of the run's model were found good, and how many bad."""
        job = await workflow.jobs.get(job_id)
        return (await workflow.in_thread(feedback_of(job.id).counts)).model_dump()
