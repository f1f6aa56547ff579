"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from ml.errors import ServiceError
from ml.generation.request import collect
from ml.serving.endpoint import Headers
from ml.serving.event_stream import event, event_stream
from ml.serving.openai.replies import CompletionForm, error_data, error_reply
from ml.serving.openai.requests import ChatCompletionRequest, CompletionRequest
from ml.serving.reply import Reply, json_reply
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow, Prompt

__all__ = ["ChatCompletions", "Completions"]

_DONE = b"data: [DONE]\n\n"


class _Endpoint:
    def __init__(self, workflow: LLMInferenceWorkflow) -> None:
        self._workflow = workflow

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as OpenAI's clients know it."""
        return error_reply(error)

    async def _answer(
        self,
        request: ChatCompletionRequest | CompletionRequest,
        prompt: Prompt,
        *,
        is_chat: bool,
    ) -> Reply:
        form = CompletionForm(request.model_name or self._workflow.served_name, is_chat)
        if request.stream:
            events = self._events(prompt, form, with_usage=request.wants_usage)
            return await event_stream(events, error_data)
        pieces, finished = await collect(self._workflow.generate(prompt))
        text = "".join(piece.text for piece in pieces)
        return json_reply(form.whole(text, finished))

    async def _events(
        self, prompt: Prompt, form: CompletionForm, *, with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        is_first = True
        async with contextlib.aclosing(self._workflow.generate(prompt)) as pieces:
            async for piece in pieces:
                if piece.text or piece.finished or is_first:
                    yield event(form.chunk(piece.text, piece.finished, is_first=is_first))
                    is_first = False
                if piece.finished and with_usage:
                    yield event(form.usage_chunk(piece.finished))
        yield _DONE


class ChatCompletions(_Endpoint):
    """Answers conversations."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a chat completion, whole or as a stream."""
        request = ChatCompletionRequest.read(body)
        prompt = await self._workflow.in_thread(self._prompt, request)
        return await self._answer(request, prompt, is_chat=True)

    def _prompt(self, request: ChatCompletionRequest) -> Prompt:
        messages = [message.for_template() for message in request.messages]
        return self._workflow.chat(messages, request.sampling(), model=request.model_name)


class Completions(_Endpoint):
    """Goes on with texts."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a text completion, whole or as a stream."""
        request = CompletionRequest.read(body)
        prompt = await self._workflow.in_thread(self._prompt, request)
        return await self._answer(request, prompt, is_chat=False)

    def _prompt(self, request: CompletionRequest) -> Prompt:
        return self._workflow.complete(
            request.prompt[0], request.sampling(), model=request.model_name
        )
