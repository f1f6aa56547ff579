"""`/generate`, `/generate_stream` and `/`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from ml.errors import ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.merging import merged
from ml.generation.request import Piece, Prompt
from ml.serving.endpoint import Headers, InThread
from ml.serving.event_stream import event, event_stream
from ml.serving.reply import Reply, json_reply
from ml.serving.tgi.replies import (
    Answer,
    Details,
    error_data,
    error_reply,
    prefill,
    stream_event,
)
from ml.serving.tgi.requests import GenerateRequest

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
        details = await self._details(request, prompt) if request.asked.details else None
        best, *others = await self._answers(prompt, request.asked.best_of or 1)
        before = _before(request)
        answer: dict[str, object] = {"generated_text": before + best.text}
        if details is not None:
            answer["details"] = details.of(best, others, before)
        return answer

    async def _answers(self, prompt: Prompt, number: int) -> list[Answer]:
        """Return so many answers, the likeliest first."""
        prompts = prompt.several(number)
        pieces: list[list[Piece]] = [[] for _ in prompts]
        generators = [self._model.generate(one) for one in prompts]
        async with contextlib.aclosing(merged(generators)) as made:
            async for index, piece in made:
                pieces[index].append(piece)
        answers = [
            Answer(of_one, of_one[-1].finished, one.sampling.seed)
            for one, of_one in zip(prompts, pieces, strict=True)
            if of_one[-1].finished is not None
        ]
        return sorted(answers, key=lambda answer: answer.mean_logprob, reverse=True)

    async def _details(self, request: GenerateRequest, prompt: Prompt) -> Details:
        texts, tokens = self._model.reader.token_texts, []
        if request.asked.decoder_input_details:
            [scored] = await self._model.score([prompt])
            tokens = prefill(prompt.ids, scored, texts)
        return Details(texts, tokens, with_top=bool(request.asked.top_n_tokens))

    async def _stream(self, request: GenerateRequest) -> Reply:
        request.require_streamable()
        prompt = await self._in_thread(self._prompt, request)
        return await event_stream(self._events(request, prompt), error_data)

    async def _events(
        self, request: GenerateRequest, prompt: Prompt
    ) -> AsyncGenerator[bytes, None]:
        top = self._model.reader.token_texts if request.asked.top_n_tokens else None
        text, index = _before(request), 0
        async with contextlib.aclosing(self._model.generate(prompt)) as pieces:
            async for piece in pieces:
                index += 1
                text += piece.text
                yield event(stream_event(index, piece, text, prompt.sampling.seed, top))

    def _prompt(self, request: GenerateRequest) -> Prompt:
        return self._model.complete(
            request.inputs,
            request.asked,
            model=request.asked.adapter_id,
            truncate=request.asked.truncate,
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
    return request.inputs if request.asked.return_full_text else ""
