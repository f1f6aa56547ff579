"""The body of `POST /v1/responses`.

Source: OpenAI's API reference, "Responses". Nothing is stored, so that a request holds all of its
conversation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from ml.generation.request import SamplingParameters
from ml.generation.response_format import JsonSchema, ResponseFormat
from ml.generation.sampling_options import Alternatives, MaxNewTokens, SamplingOptions
from ml.generation.schema_bounds import BoundedSchema
from ml.generation.tools import (
    MOST_TOOLS,
    Function,
    ObjectSchema,
    Tool,
    ToolChoice,
    ToolName,
    ToolWish,
)
from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.serving.client_request import ClientRequest
from ml.serving.openai.messages import joined_text, read_arguments

__all__ = ["ResponseRequest"]

_NOT_STORED = "nothing is stored here; send the conversation as input"


class MessageItem(ClientRequest):
    """A turn of the conversation."""

    ignored: ClassVar = frozenset({"id", "phase", "status"})

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(joined_text)]


class CallItem(ClientRequest):
    """A call that the assistant made."""

    ignored: ClassVar = frozenset({"id", "status"})

    type: Literal["function_call"]
    call_id: str
    name: ToolName
    arguments: Annotated[str, AfterValidator(lambda text: (read_arguments(text), text)[1])]


class ResultItem(ClientRequest):
    """What came of a call."""

    ignored: ClassVar = frozenset({"id", "status"})

    type: Literal["function_call_output"]
    call_id: str
    output: Annotated[str, BeforeValidator(joined_text)]


def _kind(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "")
    return kind if isinstance(kind, str) else ""


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")],
    Discriminator(
        _kind,
        custom_error_type="item",
        custom_error_message="only message, function_call and function_call_output are read; "
        + _NOT_STORED,
    ),
]


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class FunctionTool(ClientRequest):
    """A function that the model may call."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: ObjectSchema | None = None
    strict: bool | None = Field(default=None, description="Arguments fit their schema anyway")

    def tool(self) -> Tool:
        """Return the tool."""
        function = Function(
            name=self.name, description=self.description, parameters=self.parameters
        )
        return Tool(function=function)


def _nested(choice: Any) -> Any:
    """Return a choice as it is in a chat."""
    if isinstance(choice, dict) and choice.keys() == {"type", "name"}:
        return {"type": choice["type"], "function": {"name": choice["name"]}}
    return choice


class TextFormat(ClientRequest):
    """Text, any JSON object, or JSON that a schema accepts."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    json_schema: BoundedSchema | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("give schema with type json_schema, and with no other")
        return self

    def response_format(self) -> ResponseFormat:
        """Return the same as it is in a chat."""
        if self.type != "json_schema":
            return ResponseFormat(type=self.type)
        return ResponseFormat(type=self.type, json_schema=JsonSchema(schema=self.json_schema))


class TextOptions(ClientRequest):
    """How the text shall look."""

    neutral: ClassVar = {"verbosity": ("medium",)}

    format: TextFormat | None = None


class ResponseRequest(ClientRequest, SamplingOptions):
    """The body of `POST /v1/responses`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"input": "What is the capital of France?", "max_output_tokens": 16}]
        }
    )

    neutral: ClassVar = {
        "background": (False,),
        "context_management": ([],),
        "conversation": (),
        "max_tool_calls": (),
        "moderation": (),
        "previous_response_id": (),
        "prompt": (),
        "reasoning": ({},),
        "truncation": ("disabled",),
    }
    ignored: ClassVar = frozenset(
        {
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "stream_options",
            "user",
        }
    )

    model: str | None = Field(default=None, description="One of /v1/models; the first by default")
    input: Annotated[list[Item], BeforeValidator(_as_items)] = Field(
        min_length=1, description="A text, or the turns of a conversation with its calls of tools"
    )
    instructions: str | None = Field(default=None, description="Put before the conversation")
    max_new_tokens: MaxNewTokens | None = Field(default=None, alias="max_output_tokens")
    stream: bool | None = None
    text: TextOptions | None = None
    tools: list[FunctionTool] | None = Field(default=None, max_length=MOST_TOOLS)
    tool_choice: Annotated[ToolChoice | None, BeforeValidator(_nested)] = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = Field(
        default=None, description='["message.output_text.logprobs"] for probabilities of tokens'
    )
    top_logprobs: Alternatives | None = None
    metadata: dict[str, str] | None = None

    @property
    def model_name(self) -> str | None:
        """The model that is asked for, None for the service's own."""
        return None if self.model in NAMES_OF_ANY_MODEL else self.model

    @property
    def logprobs(self) -> int | None:
        """How many alternatives each token has, None where probabilities are not asked for."""
        asked = "message.output_text.logprobs" in (self.include or ())
        return (self.top_logprobs or 0) if asked or self.top_logprobs else None

    def name_of(self, parameter: str) -> str:
        """Return what these clients call a parameter."""
        return "text.format" if parameter == "form" else super().name_of(parameter)

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request."""
        form = None
        if self.text is not None and self.text.format is not None:
            form = self.text.format.response_format().form()
        return replace(
            super().over(defaults),
            logprobs=self.logprobs is not None,
            top_logprobs=self.logprobs or 0,
            form=form,
        )

    def tool_wish(self) -> ToolWish:
        """Return what the request says of tools."""
        tools = [tool.tool() for tool in self.tools or ()]
        return ToolWish(tools, self.tool_choice, parallel=self.parallel_tool_calls)

    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation as chat templates know it."""
        turns: list[dict[str, Any]] = []
        if self.instructions:
            turns.append({"role": "system", "content": self.instructions})
        for item in self.input:
            match item:
                case MessageItem():
                    role = "system" if item.role == "developer" else item.role
                    turns.append({"role": role, "content": item.content})
                case CallItem():
                    _add_call(turns, item)
                case ResultItem():
                    result = {"content": item.output, "tool_call_id": item.call_id}
                    turns.append({"role": "tool", **result})
        return turns


def _add_call(turns: list[dict[str, Any]], item: CallItem) -> None:
    """Add a call to the assistant's turn that it belongs to."""
    if not turns or turns[-1]["role"] != "assistant":
        turns.append({"role": "assistant", "content": ""})
    function = {"name": item.name, "arguments": read_arguments(item.arguments)}
    call = {"id": item.call_id, "type": "function", "function": function}
    turns[-1].setdefault("tool_calls", []).append(call)
