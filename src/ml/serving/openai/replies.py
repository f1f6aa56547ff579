"""What OpenAI's clients read."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ml.errors import (
    MethodNotAllowed,
    OutOfMemory,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from ml.generation.request import Finished, FinishReason, ModelNotFound, PromptTooLong
from ml.serving.reply import Reply, error_headers, json_reply

__all__ = ["CompletionForm", "error_data", "error_reply", "model_list", "model_object"]

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_STRING: "stop",
    FinishReason.LENGTH: "length",
}
_CODES: dict[type[ServiceError], str] = {
    MethodNotAllowed: "method_not_supported",
    ModelNotFound: "model_not_found",
    OutOfMemory: "out_of_memory",
    PromptTooLong: "context_length_exceeded",
    Unauthorized: "invalid_api_key",
}
#: The field that a description begins with, such as "messages.0.content: …".
_FIELD = re.compile(r"([a-z_][A-Za-z_]*(?:\.\w+)*)(?:\.\[key\])?: ")


@dataclass(frozen=True)
class CompletionForm:
    """Writes one answer, whole or in chunks, for a chat or for a text."""

    model: str
    is_chat: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[tuple[str, Finished]]) -> dict[str, Any]:
        """Return the answer in one object, with a choice for each text."""
        choices = []
        for index, (text, finished) in enumerate(answers):
            message = {"role": "assistant", "content": text, "refusal": None}
            content = {"message": message} if self.is_chat else {"text": text}
            choices.append(self._choice(index, content, finished))
        kind = "chat.completion" if self.is_chat else "text_completion"
        ends = [finished for _, finished in answers]
        return self._object(kind, choices) | {"usage": _usage(ends)}

    def chunk(
        self, index: int, text: str, finished: Finished | None, *, is_first: bool
    ) -> dict[str, Any]:
        """Return one piece of a choice; its last has the finish reason."""
        if not self.is_chat:
            choice = self._choice(index, {"text": text}, finished)
            return self._object("text_completion", [choice])
        delta = {"role": "assistant"} if is_first else {}
        if text or is_first:
            delta["content"] = text
        choice = self._choice(index, {"delta": delta}, finished)
        return self._object("chat.completion.chunk", [choice])

    def usage_chunk(self, ends: Sequence[Finished]) -> dict[str, Any]:
        """Return the chunk behind the last that has the numbers of tokens."""
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        return self._object(kind, []) | {"usage": _usage(ends)}

    def _choice(
        self, index: int, content: dict[str, Any], finished: Finished | None
    ) -> dict[str, Any]:
        reason = None if finished is None else _FINISH_REASONS[finished.reason]
        return {"index": index, **content, "logprobs": None, "finish_reason": reason}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def _usage(ends: Sequence[Finished]) -> dict[str, int]:
    prompt = sum(finished.prompt_tokens for finished in ends)
    completion = sum(finished.completion_tokens for finished in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def model_object(name: str) -> dict[str, Any]:
    """Return a model's entry."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "operator"}


def model_list(names: list[str]) -> dict[str, Any]:
    """Return the body of `GET /v1/models`."""
    return {"object": "list", "data": [model_object(name) for name in names]}


def error_data(error: ServiceError, input_name: str = "prompt") -> dict[str, Any]:
    """Return a failure as OpenAI's clients know it.

    `input_name` is the field with what the model was to read.
    """
    if isinstance(error, TooManyRequests):
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if error.status < 500 else "server_error"
    message, param = error.description, _param(error.description)
    if isinstance(error, PromptTooLong):
        param = input_name
        message = (
            f"This model's maximum context length is {error.most} tokens. However, your {param} "
            f"resulted in {error.tokens} tokens. Please reduce the length of the {param}."
        )
    code = _CODES.get(type(error))
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _param(description: str) -> str | None:
    """Return the field that a description names, as OpenAI writes it: `messages[0].content`."""
    named = _FIELD.match(description)
    return named and re.sub(r"\.(\d+)", r"[\1]", named[1])


def error_reply(error: ServiceError, input_name: str = "prompt") -> Reply:
    """Return the reply for a failure."""
    return json_reply(error_data(error, input_name), error.status, error_headers(error))
