"""`/datasets`: what training data may look like, and what training would find in some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart_schema import document_request, document_response

from ml.finetuning.data.report import DataReport
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.request_body import read_request
from ml.finetuning.uploads import TRAINING_DATA
from ml.serving.availability import needs_no_workflow
from ml.serving.json_body import json_body
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import Datasets, Formats

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

#: The newest, which are listed.
_MOST_UPLOADS = 1000


def add_datasets(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    @app.get("/datasets")
    @document_response(Datasets)
    async def datasets() -> dict[str, Any]:
        """Return the files that can be trained on: under INPUT_PATH, and uploaded ones."""
        files, whole = await workflow.in_thread(lambda: workflow.offer().files())
        uploads = await workflow.in_thread(workflow.uploads.list)
        uploads = [entry for entry in uploads if entry["purpose"] == TRAINING_DATA]
        return {
            "files": [vars(file) for file in files],
            "uploads": uploads[:_MOST_UPLOADS],
            "whole": whole and len(uploads) <= _MOST_UPLOADS,
        }

    @app.post("/datasets/validate")
    @document_request(FinetuningRequest)
    @document_response(DataReport)
    @document_response(DataReport, 422)
    async def validate() -> tuple[dict[str, Any], int]:
        """Look at the data of a fine-tuning request: 200 if it can be trained on, else 422."""
        report = await workflow.examine(read_request(await json_body()))
        return report.model_dump(mode="json"), 200 if report.refusal is None else 422

    @app.get("/datasets/formats")
    @document_response(Formats)
    @needs_no_workflow
    async def formats() -> dict[str, Any]:
        """Return the forms that training data may have, each with its smallest sample."""
        from ml.finetuning.data.formats import FORMATS

        return {"formats": [data_format.describe() for data_format in FORMATS.values()]}
