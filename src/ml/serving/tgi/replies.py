"""What clients of Text Generation Inference read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from ml.generation.request import Finished, FinishReason, Piece, PromptTooLong
from ml.serving.reply import Reply, error_headers, json_reply

__all__ = ["details", "error_data", "error_reply", "stream_event"]

_FINISH_REASONS = {
    FinishReason.STOP: "eos_token",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.LENGTH: "length",
}
#: Status and error type of failures; what else is not the caller's fault is (424, "generation").
_ERRORS: dict[type[ServiceError], tuple[int, str]] = {
    InvalidInput: (422, "validation"),
    Unauthorized: (401, "unauthorized"),
    Overloaded: (429, "overloaded"),
    TooManyRequests: (429, "overloaded"),
    NotReady: (503, "unhealthy"),
    DeadlineExceeded: (504, "timeout"),
}


def details(pieces: Sequence[Piece], finished: Finished, seed: int | None) -> dict[str, Any]:
    """Return the `details` of a whole answer."""
    return {
        "finish_reason": _FINISH_REASONS[finished.reason],
        "generated_tokens": finished.completion_tokens,
        "seed": seed,
        "prefill": [],
        "tokens": [_token(piece) for piece in pieces],
    }


def stream_event(index: int, piece: Piece, whole_text: str, seed: int | None) -> dict[str, Any]:
    """Return the event of one token; the last has the whole text and the details."""
    finished = piece.finished
    end = finished and {
        "finish_reason": _FINISH_REASONS[finished.reason],
        "generated_tokens": finished.completion_tokens,
        "input_length": finished.prompt_tokens,
        "seed": seed,
    }
    return {
        "index": index,
        "token": _token(piece),
        "generated_text": whole_text if finished else None,
        "details": end,
    }


def _token(piece: Piece) -> dict[str, Any]:
    return {
        "id": piece.token.id,
        "text": piece.text,
        "logprob": piece.token.logprob,
        "special": piece.is_special,
    }


def error_data(error: ServiceError) -> dict[str, str]:
    """Return a failure as these clients know it."""
    message = error.description
    if isinstance(error, PromptTooLong):
        message = (
            f"Input validation error: `inputs` must have less than {error.most} tokens. Given: "
            f"{error.tokens}"
        )
    return {"error": message, "error_type": _status_and_type(error)[1]}


def error_reply(error: ServiceError) -> Reply:
    """Return the reply for a failure."""
    return json_reply(error_data(error), _status_and_type(error)[0], error_headers(error))


def _status_and_type(error: ServiceError) -> tuple[int, str]:
    for kind in type(error).__mro__:
        if kind in _ERRORS:
            return _ERRORS[kind]
    return (error.status, "validation") if error.status < 500 else (424, "generation")
