"""The page on which a run is started: data, a look at it, a model and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart_schema import document_response

from ml.finetuning.data.reading import FILE_ENDINGS
from ml.finetuning.request import FinetuningRequest, QueryParams
from ml.serving.pages.page import Page, add_page
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import ModelsToTune
from unsloth_trainer_service.form_field import form_fields

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

_ABOUT = "Start a training: choose examples, see what a model makes of them, and let it learn."
#: Fields that the page has a place of its own for.
_PLACED = ("model_name", "output_dir", "dataset_name", "query_id", "query_params", "column_map")


def add_new_run(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the page, and the list of models that it offers."""
    settings = workflow.settings

    @app.get("/finetune/models")
    @document_response(ModelsToTune)
    async def models_to_tune() -> dict[str, list[str]]:
        """Return the models that are here to be tuned, and the tuned ones to be tuned on."""
        return await workflow.in_thread(lambda: workflow.offer().models())

    fields = form_fields(
        FinetuningRequest,
        without=_PLACED if settings.heeds_resources else (*_PLACED, "resources"),
    )
    add_page(
        app,
        Page("/new", "New run", "new_run.html", _ABOUT),
        fields=fields,
        query_fields=form_fields(QueryParams, under="query_params."),
        endings=FILE_ENDINGS,
        most_upload_bytes=settings.max_upload_bytes,
    )
