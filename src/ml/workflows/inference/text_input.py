"""A text as input, however a client, a contract or another container gives it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml.workflows.loading import unknown_fields

__all__ = ["TextInput"]


class TextInput(BaseModel):
    """An object with a `text`, whose unknown keys are refused.

    A plain string, or the `{"output": …}` of the container before in a chain, is taken as `text`.
    """

    model_config = ConfigDict(frozen=True)

    text: str = Field(min_length=1, description="The raw request to the model")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"text": data}
        if not isinstance(data, dict):
            return data
        known = list(cls.model_fields)
        if "text" not in data and isinstance(data.get("output"), str):
            # What else that container says is not for us.
            return {**{name: data[name] for name in data if name in known}, "text": data["output"]}
        if unknown := unknown_fields(data, known):
            raise ValueError("; ".join(unknown))
        return data
