"""Tools that a model may call, as clients describe them.

Source: OpenAI's API reference, "Chat completions".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from ml.errors import InvalidInput, describe_faults
from ml.generation.closed_schema import closed
from ml.generation.schema_bounds import BoundedSchema

__all__ = [
    "MOST_TOOLS",
    "Function",
    "FunctionName",
    "NamedTool",
    "Tool",
    "ToolChoice",
    "ToolName",
    "ToolWish",
    "Tools",
]

MOST_TOOLS = 128

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise ValueError('give a schema of the type "object"')
    return schema


#: The schema of a function's arguments.
ObjectSchema = Annotated[BoundedSchema, AfterValidator(_of_an_object)]


class Function(BaseModel):
    """A function with the JSON Schema of its arguments, an object; without one it has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ToolName
    description: str | None = None
    parameters: ObjectSchema | None = None
    strict: bool | None = Field(default=None, description="Arguments fit their schema anyway")

    def schema_of_arguments(self) -> dict[str, Any]:
        """Return the schema that arguments are made by, closed."""
        if self.parameters is None:
            return {"type": "object", "additionalProperties": False}
        return {"type": "object", **closed(self.parameters)}


class Tool(BaseModel):
    """A tool, which is a function."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["function"] = "function"
    function: Function
    cache_control: dict[str, Any] | None = Field(
        default=None, description="Some clients send it; it changes nothing"
    )

    def for_template(self) -> dict[str, Any]:
        """Return the tool as chat templates know it."""
        function = {
            "name": self.function.name,
            "description": self.function.description or "",
            "parameters": self.function.parameters or {"type": "object", "properties": {}},
        }
        return {"type": "function", "function": function}


class FunctionName(BaseModel):
    """The name of a function."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str


class NamedTool(BaseModel):
    """The tool that has to be called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["function"] = "function"
    function: FunctionName


Tools = Annotated[list[Tool], Field(max_length=MOST_TOOLS)]


def _read_choice(value: Any) -> Any:
    if isinstance(value, dict):
        try:
            return NamedTool.model_validate(value)
        except ValidationError as error:
            raise ValueError(describe_faults(error)) from None
    if not isinstance(value, str):
        raise ValueError("give none, auto, required, or the function that has to be called")
    # Text Generation Inference's clients give a function by its name alone.
    is_word = value in ("none", "auto", "required")
    return value if is_word else NamedTool(function=FunctionName(name=value))


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedTool, BeforeValidator(_read_choice)
]


class ToolWish:
    """What a request says of tools: those that the model is told of, and how it may call them.

    Raises `InvalidInput` for a choice that does not fit the tools.
    """

    def __init__(
        self,
        tools: Sequence[Tool] | None,
        choice: ToolChoice | None = None,
        *,
        parallel: bool | None = None,
    ) -> None:
        self.tools = () if choice == "none" else tuple(tools or ())
        self.required = choice == "required" or isinstance(choice, NamedTool)
        self.several = parallel is not False and not isinstance(choice, NamedTool)
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise InvalidInput("tools: two of them have the same name")
        if self.required and not tools:
            raise InvalidInput("tool_choice: there are no tools; give them as tools")
        #: Those that may be called.
        self.callable = self.tools
        if isinstance(choice, NamedTool):
            name = choice.function.name
            self.callable = tuple(tool for tool in self.tools if tool.function.name == name)
            if not self.callable:
                raise InvalidInput(f"tool_choice: none of the tools has the name {name!r}")
