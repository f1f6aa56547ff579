"""What clients of Text Generation Inference read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from ml.generation.request import Finished, FinishReason, Piece, PromptTooLong, Token
from ml.generation.token_texts import TokenTexts
from ml.json_text import JsonObject
from ml.serving.reply import Reply, error_headers, json_reply

__all__ = ["Answer", "Details", "error_data", "error_reply", "prefill", "stream_event"]

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


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt."""

    pieces: list[Piece]
    finished: Finished
    seed: int | None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def mean_logprob(self) -> float:
        """How likely its tokens are."""
        return sum(piece.token.logprob for piece in self.pieces) / len(self.pieces)


@dataclass(frozen=True)
class Details:
    """Writes the `details` of answers to one prompt; `prefill` are its tokens, if asked for."""

    texts: TokenTexts
    prefill: Sequence[JsonObject]
    with_top: bool

    def of(self, best: Answer, others: Sequence[Answer], before: str) -> JsonObject:
        """Return those of the best answer, with the others in them; `before` begins their texts."""
        details = self._sequence(best)
        if others:
            details["best_of_sequences"] = [
                {"generated_text": before + one.text, **self._sequence(one)} for one in others
            ]
        return details

    def _sequence(self, answer: Answer) -> JsonObject:
        details: JsonObject = {
            "finish_reason": _FINISH_REASONS[answer.finished.reason],
            "generated_tokens": answer.finished.completion_tokens,
            "seed": answer.seed,
            "prefill": list(self.prefill),
            "tokens": [_token(piece) for piece in answer.pieces],
        }
        if self.with_top:
            details["top_tokens"] = [_top(piece, self.texts) for piece in answer.pieces]
        return details


def prefill(ids: Sequence[int], scored: Sequence[Token], texts: TokenTexts) -> list[JsonObject]:
    """Return the tokens of a prompt; nothing tells how likely the first one is."""
    logprobs = [None, *(token.logprob for token in scored)]
    return [
        {"id": id_, "text": texts.text(id_), "logprob": logprob}
        for id_, logprob in zip(ids, logprobs, strict=True)
    ]


def stream_event(
    index: int, piece: Piece, whole_text: str, seed: int | None, top: TokenTexts | None
) -> JsonObject:
    """Return the event of one token; the last has the whole text and the details.

    `top` tells the texts of the likeliest tokens, if they are asked for.
    """
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
        **({"top_tokens": _top(piece, top)} if top else {}),
        "generated_text": whole_text if finished else None,
        "details": end,
    }


def _token(piece: Piece) -> JsonObject:
    return {
        "id": piece.token.id,
        "text": piece.text,
        "logprob": piece.token.logprob,
        "special": piece.is_special,
    }


def _top(piece: Piece, texts: TokenTexts) -> list[JsonObject]:
    return [
        {
            "id": id_,
            "text": texts.text(id_),
            "logprob": logprob,
            "special": texts.is_special(id_),
        }
        for id_, logprob in piece.token.top
    ]


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
