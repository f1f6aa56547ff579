"""`/v1/responses`: a conversation as items, without anything that is stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from ml.errors import ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.request import Finished, FinishReason, Piece, Prompt, Token
from ml.generation.tool_calls import CallReader, Heard
from ml.generation.tools import NamedTool
from ml.serving.endpoint import Headers, InThread
from ml.serving.event_stream import event, event_stream
from ml.serving.openai.errors import error_data, error_reply
from ml.serving.openai.logprobs import chat_logprobs
from ml.serving.openai.response_items import Event, ResponseItems
from ml.serving.openai.response_request import ResponseRequest
from ml.serving.reply import Reply, json_reply

__all__ = ["Responses"]


class Responses:
    """Answers conversations that are given as items."""

    def __init__(self, model: LanguageModel, in_thread: InThread) -> None:
        self._model, self._in_thread = model, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as OpenAI's clients know it."""
        return error_reply(error, "input")

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return a response, whole or as a stream of events."""
        request = ResponseRequest.read(body)
        prompt = await self._in_thread(self._prompt, request)
        response = _Response(request, prompt, self._model)
        if request.stream:
            return await event_stream(self._events(response), _error_event)
        async with aclosing(self._model.generate(prompt)) as pieces:
            async for piece in pieces:
                for _ in response.take(piece):
                    pass
        return json_reply(response.document())

    def _prompt(self, request: ResponseRequest) -> Prompt:
        return self._model.chat(
            request.messages(), request, model=request.model_name, tools=request.tool_wish()
        )

    async def _events(self, response: _Response) -> AsyncGenerator[bytes, None]:
        number = 0
        async with aclosing(self._model.generate(response.prompt)) as pieces:
            async for piece in pieces:
                begin = [] if number else response.begin()
                for one in (*begin, *response.take(piece)):
                    yield event({**one, "sequence_number": number}, name=one["type"])
                    number += 1


def _error_event(error: ServiceError) -> dict[str, Any]:
    """Return the event of a failure in the middle; OpenAI's client looks for `error` in it."""
    document = error_data(error, "input")
    told = {name: document["error"][name] for name in ("message", "param", "code")}
    return {"type": "error", **told, **document}


class _Response:
    """One response, which grows by pieces."""

    def __init__(self, request: ResponseRequest, prompt: Prompt, model: LanguageModel) -> None:
        self.prompt = prompt
        self._request = request
        self._model = request.model_name or model.served_name
        self._texts = model.reader.token_texts
        self._reader = None if prompt.tools is None else CallReader(prompt.tools)
        self._items = ResponseItems()
        self._unheard: list[Token] = []
        self._finished: Finished | None = None
        self._id, self._created = f"resp_{uuid.uuid4().hex}", int(time.time())

    def begin(self) -> list[Event]:
        """Return the events before the first piece."""
        kinds = ("response.created", "response.in_progress")
        return [{"type": kind, "response": self.document()} for kind in kinds]

    def take(self, piece: Piece) -> Iterator[Event]:
        """Take in a piece of the answer; yields the events of what it changes."""
        self._unheard.append(piece.token)
        for part in self._heard(piece):
            yield from self._items.hear(part, self._logprobs() if isinstance(part, str) else [])
        if piece.finished is None:
            return
        if not self._items.output:
            yield from self._items.hear("", self._logprobs())
        cut = piece.finished.reason is FinishReason.LENGTH
        yield from self._items.close("incomplete" if cut else "completed")
        self._finished = piece.finished
        response = self.document()
        yield {"type": f"response.{response['status']}", "response": response}

    def _heard(self, piece: Piece) -> Heard:
        if self._reader is None:
            return [piece.text] if piece.text else []
        heard = self._reader.feed(piece.text)
        return heard if piece.finished is None else heard + self._reader.rest()

    def _logprobs(self) -> list[dict[str, Any]]:
        tokens, self._unheard = self._unheard, []
        if self._request.logprobs is None:
            return []
        told: list[dict[str, Any]] = chat_logprobs(tokens, self._texts, self._request.logprobs)[
            "content"
        ]
        return told

    def document(self) -> dict[str, Any]:
        """Return the response as it is now."""
        request, sampling, finished = self._request, self.prompt.sampling, self._finished
        cut = finished is not None and finished.reason is FinishReason.LENGTH
        status = "in_progress" if finished is None else "incomplete" if cut else "completed"
        text = request.text
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_new_tokens,
            "max_tool_calls": None,
            "metadata": request.metadata or {},
            "model": self._model,
            "output": self._items.output if finished else [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": _dumped(text.format) if text and text.format else {"type": "text"}},
            "tool_choice": _dumped_choice(request.tool_choice),
            "tools": [_dumped(tool) for tool in request.tools or ()],
            "top_logprobs": request.top_logprobs or 0,
            "top_p": sampling.top_p,
            "truncation": "disabled",
            "usage": finished and _usage(finished),
            "user": None,
        }


def _dumped(model: Any) -> dict[str, Any] | None:
    return None if model is None else model.model_dump(by_alias=True, exclude_unset=True)


def _dumped_choice(choice: Any) -> Any:
    if isinstance(choice, NamedTool):
        return {"type": "function", "name": choice.function.name}
    return choice or "auto"


def _usage(finished: Finished) -> dict[str, Any]:
    made, read = finished.completion_tokens, finished.prompt_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + made,
    }
