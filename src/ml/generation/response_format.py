"""`response_format`: the form that a client asks an answer to have.

Source: OpenAI's API reference, "Chat completions". A `value` is Text Generation Inference's way to
give a schema, which huggingface_hub puts in place of OpenAI's.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml.generation.answer_form import AnswerForm, JsonAnswer
from ml.generation.closed_schema import closed
from ml.generation.schema_bounds import BoundedSchema, SchemaOrText, compact

__all__ = ["ANY_OBJECT", "JsonSchema", "ResponseFormat"]

#: The schema of any JSON object.
ANY_OBJECT = '{"type":"object"}'


class JsonSchema(BaseModel):
    """A schema with a name; answers fit it whether it is `strict` or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    description: str | None = None
    json_schema: BoundedSchema | None = Field(default=None, alias="schema")
    strict: bool | None = None

    def text(self) -> str:
        """Return the JSON of the schema, closed."""
        return ANY_OBJECT if self.json_schema is None else compact(closed(self.json_schema))


class ResponseFormat(BaseModel):
    """Text, any JSON object, or JSON that a schema accepts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    value: SchemaOrText | None = Field(default=None, description="A schema for json_object")

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("give json_schema with type json_schema, and with no other")
        if self.value is not None and self.type != "json_object":
            raise ValueError("give value with type json_object, and with no other")
        return self

    def form(self) -> AnswerForm | None:
        """Return what the answer has to look like."""
        if self.json_schema is not None:
            return JsonAnswer(self.json_schema.text())
        if self.value is not None:
            return JsonAnswer(compact(closed(self.value)))
        return JsonAnswer(ANY_OBJECT) if self.type == "json_object" else None
