"""What the query of an address may ask for: read by its handler, and told by the API's document."""

from __future__ import annotations

from typing import Any, Self, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from quart import current_app, request
from quart_schema.validation import QUART_SCHEMA_QUERYSTRING_ATTRIBUTE

from ml.errors import InvalidInput, describe_faults

__all__ = ["Query"]

_MOST_DIGITS = 19


class Query(BaseModel):
    """The parameters of an address, which `quart_schema.document_querystring` tells of.

    Other names in a query are not heeded, and of a name that comes again the first counts.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def asked(cls) -> Self:
        """Return what the request asks for; raises `InvalidInput` naming what cannot be.

        Raises `LookupError` where the address tells of other parameters: nothing is read that the
        document does not have.
        """
        view = current_app.view_functions[request.endpoint or ""]
        if getattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, None) is not cls:
            raise LookupError(f"{request.endpoint} does not tell of {cls.__name__}")
        try:
            return cls.model_validate(cls.given())
        except ValidationError as error:
            raise InvalidInput(describe_faults(error)) from None

    @classmethod
    def given(cls) -> dict[str, Any]:
        """Return the values that the request has for the parameters, as they came."""
        args = request.args
        return {
            name: args.getlist(name) if get_origin(field.annotation) is list else args[name]
            for name, field in cls.model_fields.items()
            if name in args
        }

    @field_validator("*", mode="before")
    @classmethod
    def _is_whole_number(cls, value: Any, info: ValidationInfo) -> Any:
        bounds = {type(one): one for one in cls.model_fields[info.field_name or ""].metadata}
        if not (Ge in bounds and Le in bounds):
            return value
        least, most = bounds[Ge].ge, bounds[Le].le
        is_number = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
        if not is_number or not least <= int(value) <= most:
            raise ValueError(f"give a whole number from {least} to {most}")
        return int(value)
