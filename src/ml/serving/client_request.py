"""Request bodies of protocols that others defined and that we speak in part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ml.errors import InvalidInput, describe_faults
from ml.workflows.loading import did_you_mean

__all__ = ["ClientRequest"]


class ClientRequest(BaseModel):
    """A JSON object whose unknown fields are refused, with the name that was probably meant.

    A client must not believe that a wish was fulfilled which was not even read.
    """

    model_config = ConfigDict(frozen=True)

    #: Fields of the protocol that we take only with one of these values, which change nothing.
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    #: Fields of the protocol that have no influence on the answer.
    ignored: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, body: bytes | str) -> Self:
        """Return the request in a body; raises `InvalidInput` naming the fields at fault."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise InvalidInput(describe_faults(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_done(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for name, value in data.items():
            if name in cls.model_fields:
                kept[name] = value
            elif name in cls.neutral:
                cls._require_neutral(name, value)
            elif name not in cls.ignored:
                raise ValueError(f"no such field: {name!r}{did_you_mean(name, cls._names())}")
        return kept

    @classmethod
    def _require_neutral(cls, name: str, value: Any) -> None:
        if value is not None and value not in cls.neutral[name]:
            allowed = " or ".join(map(repr, cls.neutral[name])) or "null"
            raise ValueError(f"{name} is not supported here: leave it out or send {allowed}")

    @classmethod
    def _names(cls) -> list[str]:
        return [*cls.model_fields, *cls.neutral, *cls.ignored]
