"""`grammar`: the form that an answer shall have, in the words of Text Generation Inference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer
from ml.generation.closed_schema import closed
from ml.generation.response_format import JsonSchema
from ml.generation.schema_bounds import Regex, SchemaOrText, compact

__all__ = ["Grammar"]


class JsonGrammar(BaseModel):
    """JSON that a schema accepts; `json_object` is the older name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["json", "json_object"]
    value: SchemaOrText

    def form(self) -> AnswerForm:
        """Return what the answer has to look like."""
        return JsonAnswer(compact(closed(self.value)))


class NamedJsonGrammar(BaseModel):
    """JSON that a schema with a name accepts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["json_schema"]
    value: JsonSchema

    def form(self) -> AnswerForm:
        """Return what the answer has to look like."""
        return JsonAnswer(self.value.text())


class RegexGrammar(BaseModel):
    """A text that a regular expression matches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["regex"]
    value: Regex

    def form(self) -> AnswerForm:
        """Return what the answer has to look like."""
        return RegexAnswer(self.value)


Grammar = Annotated[JsonGrammar | NamedJsonGrammar | RegexGrammar, Field(discriminator="type")]
