"""What OpenAI's clients read of answers, for the API's document alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

__all__ = ["ChatCompletion", "EmbeddingList", "TextCompletion"]


class Usage(BaseModel):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Message(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None = Field(description="null where the model calls functions alone")
    tool_calls: list[dict[str, Any]] | None = None


class ChatAnswer(BaseModel):
    """One of the answers."""

    index: int
    message: Message
    finish_reason: str = Field(description="stop, length or tool_calls")
    logprobs: dict[str, Any] | None = None


class TextAnswer(BaseModel):
    """One of the texts."""

    index: int
    text: str
    finish_reason: str = Field(description="stop or length")
    logprobs: dict[str, Any] | None = None


class _Completion(BaseModel):
    id: str
    created: int = Field(description="Seconds since 1970")
    model: str
    system_fingerprint: str
    usage: Usage


class ChatCompletion(_Completion):
    """The answers to a conversation; with `stream`, server-sent events with pieces of them."""

    object: Literal["chat.completion"]
    choices: list[ChatAnswer]


class TextCompletion(_Completion):
    """How texts go on; with `stream`, server-sent events with pieces of that."""

    object: Literal["text_completion"]
    choices: list[TextAnswer]


class EmbeddingList(BaseModel):
    """A vector for each text, in their order."""

    object: Literal["list"]
    data: list[dict[str, Any]] = Field(description="Each with `index` and `embedding`")
    model: str
    usage: dict[str, int]
