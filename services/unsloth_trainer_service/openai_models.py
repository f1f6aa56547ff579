"""`DELETE /v1/models/NAME`: tuned models are removed as OpenAI's clients do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


def add_models(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the address; ml.serving has those that read."""

    @app.delete("/v1/models/<path:name>")
    async def delete_model(name: str) -> dict[str, Any]:
        """Remove a tuned model and its exports, unless a job needs it."""
        await workflow.delete_model(name)
        return {"id": name, "object": "model", "deleted": True}
