"""`/inference`: text by the tuned models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from quart_schema import document_response

from ml.errors import NotFound, ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.request import Finished, Prompt, collect
from ml.generation.sampling_options import SamplingOptions
from ml.serving.answers import Streamable
from ml.serving.client_request import ClientRequest
from ml.serving.endpoint import Headers, InThread, add_endpoint
from ml.serving.event_stream import event, event_stream
from ml.serving.openai.answers import ChatCompletion
from ml.serving.openai.endpoints import ChatCompletions
from ml.serving.openai.requests import ChatCompletionRequest
from ml.serving.reply import Reply, error_reply, json_reply
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import InferenceModels

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


class InferenceRequest(ClientRequest, SamplingOptions):
    """The body of `POST /inference`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model_path": "my-model", "prompt": "What is the capital of France?"}]
        }
    )

    model_path: str = Field(min_length=1, description="A tuned model's name, or the base model's")
    prompt: str = Field(min_length=1)
    stream: bool = False
    raw: bool = Field(default=False, description="Go on with the prompt without a chat template")


class InferenceAnswer(Streamable):
    """The text; with `stream`, server-sent events with pieces of it."""

    model_path: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Inference:
    """Answers a prompt."""

    def __init__(self, model: LanguageModel, in_thread: InThread) -> None:
        self._model, self._in_thread = model, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return the one error form."""
        return error_reply(error)

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the text, whole or as a stream of events."""
        request = InferenceRequest.read(body)
        prompt = await self._in_thread(self._prompt, request)
        if request.stream:
            return await event_stream(self._events(prompt), lambda error: error.body())
        pieces, finished = await collect(self._model.generate(prompt))
        text = "".join(piece.text for piece in pieces)
        return json_reply({"model_path": request.model_path, "text": text, **_end(finished)})

    def _prompt(self, request: InferenceRequest) -> Prompt:
        name = request.model_path
        if request.raw:
            return self._model.complete(request.prompt, request, model=name)
        messages = [{"role": "user", "content": request.prompt}]
        return self._model.chat(messages, request, model=name)

    async def _events(self, prompt: Prompt) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(self._model.generate(prompt)) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield event({"text": piece.text})
                if piece.finished:
                    yield event({"done": True, **_end(piece.finished)})


class NotServed:
    """Refuses what a service without a base model is asked."""

    def refusal(self, error: ServiceError) -> Reply:
        """Return the one error form."""
        return error_reply(error)

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Raise `NotFound`, which says what to set."""
        raise NotFound(
            "This service answers with no model: set `model` in TRAINER_WORKFLOW_KW_ARGS."
        )


def _end(finished: Finished) -> dict[str, Any]:
    return {
        "finish_reason": finished.reason.value,
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
    }


def add_inference(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses; without a base model, they say how to get one."""
    model = workflow.text_generation
    add_endpoint(
        app,
        "/inference",
        NotServed() if model is None else Inference(model, workflow.in_thread),
        InferenceRequest,
        "Answer a prompt with a tuned model; with `stream`, as server-sent events.",
        InferenceAnswer,
    )
    add_endpoint(
        app,
        "/inference/chat/completions",
        NotServed() if model is None else ChatCompletions(model, workflow.in_thread),
        ChatCompletionRequest,
        "Go on with a conversation, as /v1/chat/completions does.",
        ChatCompletion,
    )

    @app.get("/inference/models")
    @document_response(InferenceModels)
    async def inference_models() -> dict[str, Any]:
        """Return the tuned models that can be asked, and their base."""
        if model is None:
            return {"base_model": None, "models": []}
        tuned = await workflow.in_thread(model.model_names)
        return {
            "base_model": model.served_name,
            "models": [{"model_path": name, "name": name} for name in tuned[1:]],
        }
