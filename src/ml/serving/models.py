"""A service of several models: each request goes to the one that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from quart_schema import document_headers

from ml.errors import NotReady
from ml.infernet.message import InfernetInput, InfernetInputSource
from ml.serving.endpoint import Headers
from ml.serving.hiding import hide_in_text
from ml.serving.query import Query
from ml.serving.reply import Reply
from ml.serving.service_output import SERVICE_OUTPUT_PATH, ServiceOutput
from ml.serving.wanted import Wanted
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.models_inference_workflow import ModelsInferenceWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from ml.workflows.inference.body_formats.body_format import BodyFormat

__all__ = ["ModelQuery", "ModelsOutput", "add_models", "models_of"]

_HEADER = b"x-model-id"
#: Of the places for requests; the others are for models that are loaded.
_SHARE_WAITING = 0.75
#: A contract's bytes up to this length are looked at on the event loop.
_SMALL_HEX = 64 * 1024


class ModelQuery(Query):
    """Names a model."""

    model_id: str | None = Field(
        default=None, description="The model that is asked about, where there are several"
    )


class ModelHeader(BaseModel):
    """Names the model where the body has no place for that: tensors as bytes."""

    x_model_id: str | None = Field(default=None, description="The model that answers")


class ModelsOutput(ServiceOutput):
    """Answers messages with the model that they name.

    An OFFCHAIN message names it as `data.model_id`, a contract in its tensor request, and a body of
    bytes by the header `X-Model-Id`, which counts for a message that names none, too.
    """

    def __init__(self, workflow: ModelsInferenceWorkflow) -> None:
        super().__init__(workflow)
        self._models = workflow

    async def run(
        self, message: InfernetInput, wanted: Wanted, headers: Headers, *, is_small: bool
    ) -> Reply:
        """Return the reply of the model that a message names."""
        model_id = await self._model_id(message) or _named(headers)
        try:
            async with self._models.hold(model_id) as workflow:
                return await ServiceOutput(workflow).run(
                    message, wanted, headers, is_small=is_small
                )
        except NotReady as error:
            raise _shown(error) from error

    async def run_bytes(
        self, given: BodyFormat, body: bytes, wanted: Wanted, headers: Headers
    ) -> Reply:
        """Return the reply of the model that the header names."""
        try:
            async with self._models.hold(_named(headers)) as workflow:
                return await ServiceOutput(workflow).run_bytes(given, body, wanted, headers)
        except NotReady as error:
            raise _shown(error) from error

    async def _model_id(self, message: InfernetInput) -> str:
        if message.source != InfernetInputSource.CHAIN:
            return self._models.model_id_of(message.data)
        if len(message.data) <= _SMALL_HEX:
            return self._of_contract(message.data)
        return await self._models.in_thread(self._of_contract, message.data)

    def _of_contract(self, data: str) -> str:
        return self._models.onchain_model_id_of(bytes.fromhex(data))


def models_of(workflow: BaseInferenceWorkflow) -> ModelsInferenceWorkflow | None:
    """Return a workflow if it has several models."""
    return workflow if isinstance(workflow, ModelsInferenceWorkflow) else None


def add_models(app: ServiceApp, workflow: ModelsInferenceWorkflow) -> None:
    """Let each request to an application go to the model that it names."""
    workflow.new_batcher = app.new_batcher
    workflow.most_waiting = max(1, int(_SHARE_WAITING * app.settings.max_in_flight))
    app.endpoints[SERVICE_OUTPUT_PATH] = ModelsOutput(workflow)
    document_headers(ModelHeader)(app.view_functions[f"post {SERVICE_OUTPUT_PATH}"])


def _named(headers: Headers) -> str:
    return headers.get(_HEADER, b"").decode(errors="replace")


def _shown(error: NotReady) -> NotReady:
    text = hide_in_text(error.description)
    return NotReady(text, retry_after_seconds=error.retry_after_seconds)
