"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

from ml.errors import ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.merging import merged
from ml.generation.request import Finished, Piece, Prompt
from ml.serving.endpoint import Headers, InThread
from ml.serving.event_stream import event, event_stream
from ml.serving.openai.replies import CompletionForm, error_data, error_reply
from ml.serving.openai.requests import ChatCompletionRequest, CompletionRequest
from ml.serving.reply import Reply, json_reply

__all__ = ["ChatCompletions", "Completions"]

_DONE = b"data: [DONE]\n\n"


class _Endpoint:
    #: The field that holds what the model reads.
    _input: ClassVar[str]

    def __init__(self, model: LanguageModel, in_thread: InThread) -> None:
        self._model, self._in_thread = model, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as OpenAI's clients know it."""
        return error_reply(error, self._input)

    async def _answer(
        self,
        request: ChatCompletionRequest | CompletionRequest,
        prompts: Sequence[Prompt],
        *,
        is_chat: bool,
    ) -> Reply:
        form = CompletionForm(request.model_name or self._model.served_name, is_chat)
        if request.stream:
            events = self._events(prompts, form, with_usage=request.wants_usage)
            return await event_stream(events, self._error_data)
        texts = [""] * len(prompts)
        ends: dict[int, Finished] = {}
        async with contextlib.aclosing(self._pieces(prompts)) as pieces:
            async for index, piece in pieces:
                texts[index] += piece.text
                if piece.finished is not None:
                    ends[index] = piece.finished
        return json_reply(form.whole([(text, ends[i]) for i, text in enumerate(texts)]))

    def _pieces(self, prompts: Sequence[Prompt]) -> AsyncGenerator[tuple[int, Piece], None]:
        return merged([self._model.generate(prompt) for prompt in prompts])

    async def _events(
        self, prompts: Sequence[Prompt], form: CompletionForm, *, with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        ends: list[Finished] = []
        async with contextlib.aclosing(self._pieces(prompts)) as pieces:
            async for index, piece in pieces:
                is_first = index not in begun
                if piece.text or piece.finished or is_first:
                    yield event(form.chunk(index, piece.text, piece.finished, is_first=is_first))
                    begun.add(index)
                if piece.finished:
                    ends.append(piece.finished)
        if with_usage:
            yield event(form.usage_chunk(ends))
        yield _DONE

    def _error_data(self, error: ServiceError) -> dict[str, Any]:
        return error_data(error, self._input)


class ChatCompletions(_Endpoint):
    """Answers conversations."""

    _input = "messages"

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a chat completion, whole or as a stream."""
        request = ChatCompletionRequest.read(body)
        prompt = await self._in_thread(self._prompt, request)
        return await self._answer(request, [prompt], is_chat=True)

    def _prompt(self, request: ChatCompletionRequest) -> Prompt:
        messages = [message.for_template() for message in request.messages]
        return self._model.chat(messages, request, model=request.model_name)


class Completions(_Endpoint):
    """Goes on with texts, each of which becomes a choice."""

    _input = "prompt"

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a text completion, whole or as a stream."""
        request = CompletionRequest.read(body)
        prompts = await self._in_thread(self._prompts, request)
        return await self._answer(request, prompts, is_chat=False)

    def _prompts(self, request: CompletionRequest) -> list[Prompt]:
        model = request.model_name
        return [self._model.complete(one, request, model=model) for one in request.prompt]
