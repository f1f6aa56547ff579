"""Failures as OpenAI's clients read them."""

from __future__ import annotations

import re
from typing import Any

from ml.errors import (
    MethodNotAllowed,
    OutOfMemory,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from ml.generation.request import ModelNotFound, PromptTooLong
from ml.serving.reply import Reply, error_headers, json_reply

__all__ = ["error_data", "error_reply"]

_CODES: dict[type[ServiceError], str] = {
    MethodNotAllowed: "method_not_supported",
    ModelNotFound: "model_not_found",
    OutOfMemory: "out_of_memory",
    PromptTooLong: "context_length_exceeded",
    Unauthorized: "invalid_api_key",
}
#: The field that a description begins with, such as "messages.0.content: …".
_FIELD = re.compile(r"([a-z_][A-Za-z_]*(?:\.\w+)*)(?:\.\[key\])?: ")


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
