"""Request bodies of protocols that others defined and that we speak in part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ml.errors import InvalidInput, describe_faults, unknown_fields
from ml.serving.json_body import read_body

__all__ = ["ClientRequest"]


class ClientRequest(BaseModel):
    """A JSON object whose unknown fields are refused, with the name that was probably meant.

    A client must not believe that a wish was fulfilled which was not even read. A field with an
    alias is known by that alone.
    """

    model_config = ConfigDict(frozen=True)

    #: Fields of the protocol that we take only with one of these values, which change nothing.
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    #: Fields of the protocol that have no influence on the answer.
    ignored: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, body: bytes | str) -> Self:
        """Return the request in a body; raises `InvalidInput` naming the fields at fault."""
        try:
            return cls.model_validate(read_body(body))
        except ValidationError as error:
            raise InvalidInput(describe_faults(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_done(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if unknown := unknown_fields(data, [*known, *cls.neutral, *cls.ignored]):
            raise ValueError("; ".join(unknown))
        for name, allowed in cls.neutral.items():
            value = data.get(name)
            if value is not None and not any(_same(value, one) for one in allowed):
                due = " or ".join(map(repr, allowed)) or "null"
                raise ValueError(f"{name}: not supported here; leave it out or send {due}")
        return {name: value for name, value in data.items() if name in known}


def _same(value: object, other: object) -> bool:
    """Return whether two JSON values are equal; true is no 1, nor false a 0."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
