"""The form that an answer shall have, in OpenAI's words and in those of vLLM's clients."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer
from ml.generation.closed_schema import closed
from ml.generation.response_format import ANY_OBJECT, ResponseFormat
from ml.generation.sampling_options import SamplingOptions
from ml.generation.schema_bounds import Regex, SchemaOrText, compact
from ml.json_text import JsonObject
from ml.serving.client_request import ClientRequest

__all__ = ["AnswerForms"]

_Choices = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=1, max_length=256)
]


class StructuredOutputs(ClientRequest):
    """vLLM's `structured_outputs`."""

    neutral: ClassVar = {"grammar": (), "structural_tag": ()}
    ignored: ClassVar = frozenset(
        {
            "disable_additional_properties",
            "disable_any_whitespace",
            "disable_fallback",
            "whitespace_pattern",
        }
    )

    json_schema: SchemaOrText | None = Field(default=None, alias="json")
    regex: Regex | None = None
    choice: _Choices | None = None
    json_object: bool | None = None

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if len(self.forms()) > 1:
            raise ValueError("give one of json, regex, choice and json_object")
        return self

    def forms(self) -> list[AnswerForm]:
        """Return the forms that are asked for."""
        forms = _forms(self.json_schema, self.regex, self.choice)
        return [*forms, JsonAnswer(ANY_OBJECT)] if self.json_object else forms


class AnswerForms(SamplingOptions):
    """The fields that ask for a form, of which a request gives one at most."""

    response_format: ResponseFormat | None = None
    guided_json: SchemaOrText | None = Field(default=None, description="vLLM's older name")
    guided_regex: Regex | None = Field(default=None, description="vLLM's older name")
    guided_choice: _Choices | None = Field(default=None, description="vLLM's older name")
    structured_outputs: StructuredOutputs | None = Field(default=None, description="vLLM's")

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        names = [name for name, _ in self._asked()]
        if len(names) > 1:
            raise ValueError(f"{names[0]}: {names[1]} asks for a form as well; give one of them")
        return self

    def name_of(self, parameter: str) -> str:
        """Return what these clients call a parameter."""
        if parameter == "form":
            return next((name for name, _ in self._asked()), "response_format")
        return super().name_of(parameter)

    def form(self) -> AnswerForm | None:
        """Return what the answer has to look like."""
        return next((form for _, form in self._asked()), None)

    def _asked(self) -> list[tuple[str, AnswerForm]]:
        """Return the fields that ask for a form, with what they ask for."""
        structured = self.structured_outputs.forms() if self.structured_outputs else []
        response_format = self.response_format.form() if self.response_format else None
        return [
            *(("guided_json", form) for form in _forms(self.guided_json, None, None)),
            *(("guided_regex", form) for form in _forms(None, self.guided_regex, None)),
            *(("guided_choice", form) for form in _forms(None, None, self.guided_choice)),
            *(("structured_outputs", form) for form in structured),
            *([("response_format", response_format)] if response_format else []),
        ]


def _forms(
    schema: JsonObject | None, regex: str | None, choices: list[str] | None
) -> list[AnswerForm]:
    forms: list[AnswerForm] = []
    if schema is not None:
        forms.append(JsonAnswer(compact(closed(schema))))
    if regex is not None:
        forms.append(RegexAnswer(regex))
    if choices:
        forms.append(RegexAnswer("|".join(re.sub(r"([^\w\s])", r"\\\1", one) for one in choices)))
    return forms
