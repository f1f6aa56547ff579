"""The turns of a conversation, as OpenAI's clients send them.

Source: OpenAI's API reference, "Chat completions".
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ml.errors import describe_faults
from ml.generation.tools import ToolName
from ml.json_text import JsonObject, read_json
from ml.serving.client_request import ClientRequest

__all__ = ["Message", "joined_text", "read_arguments"]


class TextPart(ClientRequest):
    """A part of a turn's content."""

    ignored: ClassVar = frozenset(
        {"annotations", "cache_control", "logprobs", "prompt_cache_breakpoint"}
    )

    type: Literal["text", "input_text", "output_text"]
    text: str


def joined_text(content: object) -> object:
    """Return the text of a content that is given in parts."""
    if not isinstance(content, list):
        return content
    if not content:
        raise ValueError("give at least one part")
    return "".join(_text_of(number, part) for number, part in enumerate(content))


def _text_of(number: int, part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind not in ("text", "input_text", "output_text"):
        raise ValueError(f'part {number}: {kind!r} is not supported, only {{"type": "text"}}')
    try:
        return TextPart.model_validate(part).text
    except ValidationError as error:
        raise ValueError(f"part {number}: {describe_faults(error)}") from None


def read_arguments(text: str) -> JsonObject:
    """Return the arguments of a call from their JSON; none of nothing."""
    try:
        arguments = read_json(text or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError("give the JSON text of an object")
    return arguments


def _checked(text: str) -> str:
    read_arguments(text)
    return text


class CalledFunction(ClientRequest):
    """The function of a call."""

    ignored: ClassVar = frozenset({"parsed_arguments"})

    name: ToolName
    arguments: Annotated[str, AfterValidator(_checked)] = ""


class ToolCall(ClientRequest):
    """A call that the assistant made."""

    ignored: ClassVar = frozenset({"index"})

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction

    def for_template(self) -> JsonObject:
        """Return the call as chat templates know it."""
        arguments = read_arguments(self.function.arguments)
        function = {"name": self.function.name, "arguments": arguments}
        return {"id": self.id or "", "type": "function", "function": function}


class Message(ClientRequest):
    """One turn of a conversation."""

    neutral: ClassVar = {
        "function_call": (),
        "audio": (),
        "refusal": (),
        "reasoning": (),
        "reasoning_content": (),
    }
    #: `parsed` is what OpenAI's own client adds to an answer that is sent back.
    ignored: ClassVar = frozenset({"annotations", "name", "parsed"})

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=128)
    tool_call_id: str | None = Field(default=None, description="Which call a tool answers")
    content: Annotated[str | None, BeforeValidator(joined_text)] = Field(
        default=None, validate_default=True
    )

    @field_validator("tool_calls")
    @classmethod
    def _made_by_the_assistant(
        cls, calls: list[ToolCall] | None, info: ValidationInfo
    ) -> list[ToolCall] | None:
        if calls and info.data.get("role") != "assistant":
            raise ValueError("only an assistant calls tools")
        return calls

    @field_validator("content")
    @classmethod
    def _says_something(cls, content: str | None, info: ValidationInfo) -> str | None:
        if content is None and not info.data.get("tool_calls"):
            raise ValueError("give a text, or parts of one")
        return content

    def for_template(self) -> JsonObject:
        """Return the turn as chat templates know it."""
        role = "system" if self.role == "developer" else self.role
        turn: JsonObject = {"role": role, "content": self.content or ""}
        if self.tool_calls:
            turn["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.role == "tool":
            turn["tool_call_id"] = self.tool_call_id or ""
        return turn
