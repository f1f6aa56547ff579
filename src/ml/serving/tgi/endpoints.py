"""`/generate`, `/generate_stream` and `/`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from ml.errors import ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.request import Prompt, collect
from ml.serving.endpoint import Headers, InThread
from ml.serving.event_stream import event, event_stream
from ml.serving.reply import Reply, json_reply
from ml.serving.tgi.replies import details, error_data, error_reply, stream_event
from ml.serving.tgi.requests import GenerateRequest, Parameters

__all__ = ["Generate", "GenerateEither", "GenerateStream"]


class Generate:
    """Goes on with a text and answers with the whole."""

    def __init__(self, model: LanguageModel, in_thread: InThread) -> None:
        self._model, self._in_thread = model, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as these clients know it."""
        return error_reply(error)

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return `{"generated_text": …}`, with `details` where they are asked for."""
        return json_reply(await self._whole(GenerateRequest.read(body)))

    async def _whole(self, request: GenerateRequest) -> dict[str, object]:
        prompt = await self._in_thread(self._prompt, request)
        pieces, finished = await collect(self._model.generate(prompt))
        parameters = request.parameters or Parameters()
        text = "".join(piece.text for piece in pieces)
        answer: dict[str, object] = {"generated_text": _before(request) + text}
        if parameters.details:
            answer["details"] = details(pieces, finished, parameters.seed)
        return answer

    async def _stream(self, request: GenerateRequest) -> Reply:
        prompt = await self._in_thread(self._prompt, request)
        return await event_stream(self._events(request, prompt), error_data)

    async def _events(
        self, request: GenerateRequest, prompt: Prompt
    ) -> AsyncGenerator[bytes, None]:
        seed = (request.parameters or Parameters()).seed
        text, index = _before(request), 0
        async with contextlib.aclosing(self._model.generate(prompt)) as pieces:
            async for piece in pieces:
                index += 1
                text += piece.text
                yield event(stream_event(index, piece, text, seed))

    def _prompt(self, request: GenerateRequest) -> Prompt:
        parameters = request.parameters or Parameters()
        return self._model.complete(
            request.inputs,
            parameters,
            model=parameters.adapter_id,
            truncate=parameters.truncate,
            keeps_stop=True,
        )


class GenerateStream(Generate):
    """Goes on with a text, as server-sent events."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return an event for each token."""
        return await self._stream(GenerateRequest.read(body))


class GenerateEither(Generate):
    """Goes on with a text, as its `stream` says; the whole comes in a list."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a list with the one answer, or an event for each token."""
        request = GenerateRequest.read(body)
        if request.stream:
            return await self._stream(request)
        return json_reply([await self._whole(request)])


def _before(request: GenerateRequest) -> str:
    full = request.parameters is not None and request.parameters.return_full_text
    return request.inputs if full else ""
