"""What OpenAI's clients read of answers, for the API's document alone."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, RootModel

from ml.json_text import JsonObject
from ml.serving.answers import Streamable

__all__ = [
    "ChatCompletion",
    "Deleted",
    "DetokenizedText",
    "EmbeddingList",
    "ListPage",
    "Model",
    "ModelList",
    "ResponseObject",
    "TextCompletion",
    "Tokenized",
]


class Usage(BaseModel):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SaidMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None = Field(description="null where the model calls functions alone")
    tool_calls: list[JsonObject] | None = None


class ChatAnswer(BaseModel):
    """One of the answers."""

    index: int
    message: SaidMessage
    finish_reason: str = Field(description="stop, length or tool_calls")
    logprobs: JsonObject | None = None


class TextAnswer(BaseModel):
    """One of the texts."""

    index: int
    text: str
    finish_reason: str = Field(description="stop or length")
    logprobs: JsonObject | None = None


class _Completion(Streamable):
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
    data: list[JsonObject] = Field(description="Each with `index` and `embedding`")
    model: str
    usage: dict[str, int]


class ResponseObject(Streamable):
    """How a conversation of items goes on; with `stream`, events with pieces of it."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="Seconds since 1970")
    completed_at: int | None
    status: Literal["in_progress", "incomplete", "completed"]
    model: str
    output: list[JsonObject] = Field(description="Messages, and calls of functions")
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    tools: list[JsonObject]
    tool_choice: str | JsonObject
    text: JsonObject
    temperature: float | None
    top_p: float | None
    metadata: dict[str, str]
    usage: JsonObject | None


class Tokens(BaseModel):
    """The tokens of a text or of a conversation."""

    count: int
    max_model_len: int = Field(description="The most tokens that prompt and answer may have")
    tokens: list[int]
    token_strs: list[str] | None


class TokenPlace(BaseModel):
    """A token, and where it stands in the text."""

    id: int
    text: str
    start: int
    stop: int


class Tokenized(RootModel[Tokens | list[TokenPlace]]):
    """The tokens with their number; for `inputs`, each with its place."""


class DetokenizedText(BaseModel):
    """The text of tokens."""

    prompt: str


class Model(BaseModel):
    """A model that can be named."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models that can be named."""

    object: Literal["list"]
    data: list[Model]


class Deleted(BaseModel):
    """What was removed."""

    id: str
    object: str
    deleted: bool


class ListPage(BaseModel):
    """A part of a list; `data` has its entries."""

    object: Literal["list"]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool
