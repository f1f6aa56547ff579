"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar

from ml import __version__
from ml.errors import ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.request import Finished, FinishReason, Prompt, Token
from ml.json_text import JsonObject
from ml.serving.endpoint import Headers, InThread
from ml.serving.event_stream import event, event_stream
from ml.serving.openai.choices import ChatChoice, Choice, TextChoice, grow
from ml.serving.openai.errors import error_data, error_reply
from ml.serving.openai.replies import CompletionForm, usage
from ml.serving.openai.requests import ChatCompletionRequest, CompletionRequest
from ml.serving.reply import Reply, json_reply

__all__ = ["ChatCompletions", "Completions"]

_DONE = b"data: [DONE]\n\n"


class _Endpoint:
    #: The field that holds what the model reads.
    _input: ClassVar[str]
    _is_chat: ClassVar[bool]

    def __init__(self, model: LanguageModel, in_thread: InThread) -> None:
        self._model, self._in_thread = model, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as OpenAI's clients know it."""
        return error_reply(error, self._input)

    def _form(self, request: ChatCompletionRequest | CompletionRequest) -> CompletionForm:
        name = request.model_name or self._model.served_name
        fingerprint = f"{__version__}-{self._model.dtype}-{self._model.device_type}"
        return CompletionForm(name, fingerprint, self._is_chat, with_usage=request.wants_usage)

    async def _stream(
        self, form: CompletionForm, prompts: Sequence[Prompt], choices: Sequence[Choice]
    ) -> Reply:
        return await event_stream(self._events(form, prompts, choices), self._error_data)

    async def _events(
        self, form: CompletionForm, prompts: Sequence[Prompt], choices: Sequence[Choice]
    ) -> AsyncGenerator[bytes, None]:
        for index, choice in enumerate(choices):
            if choice.finished and (news := choice.news(index)):  # there is nothing to make
                yield event(form.chunk(news))
        async with aclosing(self._grow(choices)) as grown:
            async for index, choice in grown:
                if news := choice.news(index):
                    yield event(form.chunk(news))
        if form.with_usage:
            yield event(form.usage_chunk(usage(prompts, choices)))
        yield _DONE

    async def _finish(self, choices: Sequence[Choice]) -> None:
        async with aclosing(self._grow(choices)) as grown:
            async for _ in grown:
                pass

    def _grow(self, choices: Sequence[Choice]) -> AsyncGenerator[tuple[int, Choice], None]:
        return grow(self._model, [] if all(one.finished for one in choices) else choices)

    def _error_data(self, error: ServiceError) -> JsonObject:
        return error_data(error, self._input)


class ChatCompletions(_Endpoint):
    """Answers conversations."""

    _input = "messages"
    _is_chat = True

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a chat completion, whole or as a stream."""
        request = ChatCompletionRequest.read(body)
        prompt = await self._in_thread(self._prompt, request)
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        texts = self._model.reader.token_texts
        choices = [ChatChoice(one, texts, logprobs) for one in prompt.several(request.n or 1)]
        form = self._form(request)
        if request.stream:
            return await self._stream(form, [prompt], choices)
        await self._finish(choices)
        return json_reply(form.whole(choices, usage([prompt], choices)))

    def _prompt(self, request: ChatCompletionRequest) -> Prompt:
        messages = [message.for_template() for message in request.messages]
        return self._model.chat(
            messages, request, model=request.model_name, tools=request.tool_wish()
        )


class Completions(_Endpoint):
    """Goes on with texts, each of which becomes a choice or several."""

    _input = "prompt"
    _is_chat = False

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a text completion, whole or as a stream."""
        request = CompletionRequest.read(body)
        prompts = await self._in_thread(self._prompts, request)
        scored: list[list[Token] | None] = [None] * len(prompts)
        if request.echo and request.logprobs is not None:
            scored = [*await self._model.score(prompts, top_logprobs=request.logprobs)]
        choices = [
            choice
            for one in zip(request.prompt, prompts, scored, strict=True)
            for choice in self._choices(request, *one)
        ]
        form = self._form(request)
        if request.stream:
            return await self._stream(form, prompts, choices)
        await self._finish(choices)
        best = _best(choices, request.answers, request.n or 1)
        return json_reply(form.whole(best, usage(prompts, choices)))

    def _prompts(self, request: CompletionRequest) -> list[Prompt]:
        model = request.model_name
        return [self._model.complete(one, request, model=model) for one in request.prompt]

    def _choices(
        self,
        request: CompletionRequest,
        given: str | list[int],
        prompt: Prompt,
        scored: list[Token] | None,
    ) -> list[TextChoice]:
        texts, logprobs = self._model.reader.token_texts, request.logprobs is not None
        echo = ""
        if request.echo:
            echo = given if isinstance(given, str) else "".join(texts.pieces(given))
        choices = [
            TextChoice(one, texts, logprobs=logprobs, echo=echo, scored=scored)
            for one in prompt.several(request.answers)
        ]
        if request.max_new_tokens == 0:
            for choice in choices:
                choice.finished = Finished(FinishReason.LENGTH, len(prompt.ids), 0)
        return choices


def _best(choices: list[TextChoice], made: int, wanted: int) -> list[TextChoice]:
    """Return the likeliest answers to each prompt, as many as are wanted."""
    if made == wanted:
        return choices
    best: list[TextChoice] = []
    for start in range(0, len(choices), made):
        answers = choices[start : start + made]
        answers.sort(key=lambda choice: choice.mean_logprob, reverse=True)
        best += answers[:wanted]
    return best
