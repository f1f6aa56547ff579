"""`/models`: the tuned models, as a page, and as a list for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from quart_schema import document_querystring, document_response

from ml.finetuning.tuned_models import TunedModel
from ml.serving.job_views import timestamp
from ml.serving.pages.page import Page, add_page
from ml.serving.paging import MOST_ENTRIES, PageQuery
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import ModelPage

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


class ModelsQuery(PageQuery):
    """A page of models, all or some."""

    limit: int = Field(default=50, ge=1, le=MOST_ENTRIES, description="How many models, at most")
    after: str | None = Field(default=None, description="The name of the last one that you have")
    search: str = Field(
        default="", description="Words that are in a model's name, its base or its run"
    )


def add_models_page(app: ServiceApp, workflow: UnslothTrainerWorkflow, *, serves: bool) -> None:
    """Register the page and the list; `serves` says whether an LLM service is known."""

    @document_querystring(ModelsQuery)
    @document_response(ModelPage)
    async def tuned_models() -> dict[str, Any]:
        """Return the tuned models, newest first; a page to browsers.

        `loaded` says whether one is in memory to answer, and is null where nothing answers.
        """
        app.health.require_loaded()
        query = ModelsQuery.asked()
        page = await workflow.in_thread(workflow.tuned.page, query.search, query.after, query.limit)
        return {
            "models": [_view(workflow, model) for model in page.models],
            "total": page.total,
            "has_more": page.has_more,
        }

    about = "Download what was tuned, ask it, train it on, or delete it."
    page = Page("/models", "Models", "models.html", about)
    add_page(app, page, others=tuned_models, serves=serves)


def _view(workflow: UnslothTrainerWorkflow, model: TunedModel) -> dict[str, Any]:
    answering = workflow.text_generation
    adapters = None if answering is None else answering.adapters
    return {
        "name": model.name,
        "base_model": model.base_model,
        "job_id": model.job_id,
        "created_at": timestamp(model.made_at),
        "bytes": model.size,
        "loaded": None if adapters is None else adapters.is_loaded(model.name),
    }
