"""What the export of a tuned model is asked for, by a client and as a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ml.errors import UnprocessableInput, fault_lines, unknown_fields
from ml.finetuning.request import Export, TrainingParameters
from ml.jobs.resources import Resources

__all__ = ["ExportJobRequest", "ExportRequest"]

#: Parameters of a training that its model is loaded with.
_LOADING = ("backend", "load_in_4bit", "max_seq_length")


class ExportRequest(BaseModel):
    """Forms of a tuned model beside its adapter, by the names that a training has for them."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"exports": ["merged_16bit"]}]},
    )

    exports: list[Export] = Field(
        min_length=1,
        description="merged_16bit: one whole model in safetensors, for most servers; gguf: one "
        "file, for llama.cpp and what is built on it, in bf16, or in the type that is named",
    )
    resources: Resources | None = Field(
        default=None, description="What it needs of a host, where an executor places jobs"
    )

    @field_validator("exports")
    @classmethod
    def _each_once(cls, value: list[Export]) -> list[Export]:
        return list(dict.fromkeys(value))

    @classmethod
    def read(cls, data: Any) -> Self:
        """Return the request in a body; raises `UnprocessableInput` naming the fields at fault."""
        if not isinstance(data, dict):
            raise UnprocessableInput("give a JSON object")
        faults = unknown_fields(data, list(cls.model_fields))
        known = {name: value for name, value in data.items() if name in cls.model_fields}
        try:
            request = cls.model_validate(known)
        except ValidationError as error:
            faults += fault_lines(error)
        if faults:
            raise UnprocessableInput("; ".join(faults))
        return request


class ExportJobRequest(ExportRequest):
    """What an export's job is asked for.

    Attributes:
        model_name: the tuned model's.
        run_id: of the job that made the model, among whose files the exports are.
    """

    model_name: str
    run_id: str
    backend: Any = "auto"
    load_in_4bit: bool | None = None
    max_seq_length: int = TrainingParameters.model_fields["max_seq_length"].default

    @classmethod
    def of(cls, wish: ExportRequest, name: str, run_id: str, trained: Mapping[str, Any]) -> Self:
        """Return the request for a model that was trained with such a request."""
        loading = {each: trained[each] for each in _LOADING if each in trained}
        wished = wish.model_dump()
        return cls.model_validate({**loading, **wished, "model_name": name, "run_id": run_id})

    def parameters(self) -> TrainingParameters:
        """Return what the parts that load and merge a model are told."""
        loading = {each: getattr(self, each) for each in _LOADING}
        return TrainingParameters.model_validate({**loading, "exports": self.exports})
