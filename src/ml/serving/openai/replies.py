"""What OpenAI's clients read."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from ml.errors import (
    NotFound,
    OutOfMemory,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from ml.generation.request import Finished, FinishReason
from ml.serving.reply import Reply, error_headers, json_reply

__all__ = ["CompletionForm", "error_data", "error_reply", "model_list", "model_object"]

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_STRING: "stop",
    FinishReason.LENGTH: "length",
}
_CODES = {
    NotFound: "model_not_found",
    OutOfMemory: "out_of_memory",
    Unauthorized: "invalid_api_key",
}


@dataclass(frozen=True)
class CompletionForm:
    """Writes one answer, whole or in chunks, for a chat or for a text."""

    model: str
    is_chat: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        """Return the answer in one object."""
        if self.is_chat:
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = self._choice({"message": message}, finished)
        else:
            choice = self._choice({"text": text}, finished)
        kind = "chat.completion" if self.is_chat else "text_completion"
        return self._object(kind, [choice]) | {"usage": _usage(finished)}

    def chunk(self, text: str, finished: Finished | None, *, is_first: bool) -> dict[str, Any]:
        """Return one piece of the answer; the last has the finish reason."""
        if not self.is_chat:
            return self._object("text_completion", [self._choice({"text": text}, finished)])
        delta = {"role": "assistant"} if is_first else {}
        if text or is_first:
            delta["content"] = text
        choice = self._choice({"delta": delta}, finished)
        return self._object("chat.completion.chunk", [choice])

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        """Return the chunk behind the last that has the numbers of tokens."""
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        return self._object(kind, []) | {"usage": _usage(finished)}

    def _choice(self, content: dict[str, Any], finished: Finished | None) -> dict[str, Any]:
        reason = None if finished is None else _FINISH_REASONS[finished.reason]
        return {"index": 0, **content, "logprobs": None, "finish_reason": reason}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def _usage(finished: Finished) -> dict[str, int]:
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
    }


def model_object(name: str) -> dict[str, Any]:
    """Return a model's entry."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "operator"}


def model_list(names: list[str]) -> dict[str, Any]:
    """Return the body of `GET /v1/models`."""
    return {"object": "list", "data": [model_object(name) for name in names]}


def error_data(error: ServiceError) -> dict[str, Any]:
    """Return a failure as OpenAI's clients know it."""
    if isinstance(error, TooManyRequests):
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if error.status < 500 else "server_error"
    code = _CODES.get(type(error))
    return {
        "error": {"message": error.description, "type": kind, "param": None, "code": code},
    }


def error_reply(error: ServiceError) -> Reply:
    """Return the reply for a failure."""
    return json_reply(error_data(error), error.status, error_headers(error))
