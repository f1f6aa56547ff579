"""What the workflow takes, told for forms and documents, and written as a contract sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from quart_schema import document_querystring, document_response

from ml.errors import InvalidInput, ServiceError
from ml.infernet.json_text import to_json
from ml.infernet.message import InfernetInput, InfernetInputSource, parse_message
from ml.json_text import JsonObject
from ml.serving.availability import needs_no_workflow
from ml.serving.endpoint import Headers, add_endpoint
from ml.serving.models import ModelQuery, models_of
from ml.serving.reply import Reply, error_reply
from ml.serving.service_output import SERVICE_OUTPUT_PATH
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["ENCODE_PATH", "add_input_form", "example_messages"]

FORM_PATH = f"{SERVICE_OUTPUT_PATH}/form"
ENCODE_PATH = f"{SERVICE_OUTPUT_PATH}/encode"


class EncodedMessage(BaseModel):
    """The message of a contract."""

    source: Literal[0]
    destination: Literal[0]
    data: str = Field(description="The ABI encoding, in hex without 0x")
    requires_proof: bool


class WhatIsTaken(BaseModel):
    """What a message to the workflow may say."""

    json_schema: JsonObject | None = Field(
        alias="schema", description="Of `data`; null where anything is taken"
    )
    example: Any = Field(description="A `data` that is answered; null if none is known")
    streams: bool = Field(description="Whether an answer comes in pieces, for destination 2")
    proves: bool = Field(description="Whether `requires_proof` brings a proof")
    proves_unasked: bool = Field(description="Whether an answer has its proof without that, too")
    contracts: bool = Field(description="Whether /service_output/encode knows what contracts send")


class Encode:
    """Answers a web client's message with the one of a contract that asks for the same."""

    def __init__(self, workflow: BaseInferenceWorkflow) -> None:
        self._workflow = workflow

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the message. Raises `InvalidInput` for what a contract cannot ask."""
        return Reply(200, await self._workflow.in_thread(self._encode, body))

    def refusal(self, error: ServiceError) -> Reply:
        """Return the one error form."""
        return error_reply(error)

    def _encode(self, body: bytes) -> bytes:
        message = parse_message(body)
        if message.source != InfernetInputSource.OFFCHAIN:
            raise InvalidInput("source: give 1; a message of a contract is encoded already")
        if not self._workflow.has_onchain_input:
            raise InvalidInput("contracts ask this workflow in a form that is not known here")
        data = self._workflow.encode_onchain_input(message.data).hex()
        proof = bool(message.requires_proof)
        return to_json({"source": 0, "destination": 0, "data": data, "requires_proof": proof})


def add_input_form(app: ServiceApp) -> None:
    """Register the addresses."""
    workflow = app.workflow

    @app.get(FORM_PATH)
    @document_querystring(ModelQuery)
    @document_response(WhatIsTaken)
    @needs_no_workflow
    async def input_form() -> JsonObject:
        """Return the JSON Schema of a message's `data`, an example, and what can be asked for.

        A model's own shape and an example of it are known once it is loaded. Of several models, it
        is the default one's, or that which `model_id` names.
        """
        models, model_id = models_of(workflow), ModelQuery.asked().model_id
        told = models.for_model(model_id) if models is not None and model_id else workflow
        return {
            "schema": told.input_schema(),
            "example": told.example_input(),
            "streams": told.can_stream,
            "proves": told.can_prove,
            "proves_unasked": told.can_prove and told.proves_unasked,
            "contracts": told.has_onchain_input,
        }

    add_endpoint(
        app,
        ENCODE_PATH,
        Encode(workflow),
        InfernetInput,
        "Return a web client's message as the node sends it for a contract: its `data` in hex.",
        EncodedMessage,
    )


def example_messages(workflow: BaseInferenceWorkflow, *, has_all: bool) -> dict[str, JsonObject]:
    """Return messages that the workflow answers, by what they show; none if no input is known."""
    data = workflow.example_input()
    if data is None or not (has_all or workflow.has_onchain_input):
        return {}
    messages = {"a web client": {"source": 1, "data": data}}
    if not has_all:
        return messages
    if workflow.can_stream:
        messages["a stream"] = {"source": 1, "destination": 2, "data": data}
    if workflow.can_prove:
        messages["with a proof"] = {"source": 1, "data": data, "requires_proof": True}
    if workflow.has_onchain_input:
        encoded = workflow.encode_onchain_input(data).hex()
        messages["a contract"] = {"source": 0, "destination": 0, "data": encoded}
    return messages
