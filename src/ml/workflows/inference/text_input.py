"""A text as input, however a client, a contract or another container gives it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml.errors import unknown_fields
from ml.workflows.inference.answer_before import ANSWERS, answer_before

__all__ = ["TextInput"]


class TextInput(BaseModel):
    """An object with a `text`, whose unknown keys are refused.

    A plain string is taken as `text`, as is that under `outputs` or `output` of the answer of the
    container before in a chain.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    text: str = Field(min_length=1, description="The raw request to the model")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        if isinstance(data, str):
            return {"text": data}
        if not isinstance(data, dict):
            return data
        known = list(cls.model_fields)
        if "text" not in data and (text := answer_before(data, str)) is not None:
            # What else that container says is not for us.
            return {**{name: data[name] for name in data if name in known}, "text": text}
        if "text" not in data and data.keys() & {*ANSWERS, "dtype"}:
            raise ValueError("expected a text; the answer of the container before holds none")
        if unknown := unknown_fields(data, known):
            raise ValueError("; ".join(unknown))
        return data
