"""A text as input, however a client, a contract or another container gives it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["TextInput"]


class TextInput(BaseModel):
    """An object with a `text`.

    A plain string, or the `{"output": …}` of the container before in a chain, is taken as `text`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    text: str = Field(min_length=1, description="The raw request to the model")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"text": data}
        if isinstance(data, dict) and "text" not in data and isinstance(data.get("output"), str):
            return {**data, "text": data["output"]}
        return data
