"""What a workflow is asked, in the forms that callers have for it: JSON, and a contract's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import JsonSchemaValue

from ml.errors import InvalidInput, describe_faults
from ml.infernet.text import decode_text, encode_text
from ml.workflows.inference.text_input import TextInput

if TYPE_CHECKING:
    from ml.workflows.inference.body_formats.body_format import BodyFormat

__all__ = ["WorkflowInput", "validated"]

Model = TypeVar("Model", bound=BaseModel)


class WorkflowInput:
    """The half of a workflow that reads requests, and says what they look like."""

    #: A pydantic model that OFFCHAIN `data` has to fit; None passes the data on as it came.
    input_model: ClassVar[type[BaseModel] | None] = None
    #: Whether people ask by a form on the service's page; a service may have better pages for that.
    has_form: ClassVar[bool] = True

    def decode_offchain(self, data: object) -> Any:
        """Return the workflow's input from the JSON `data` of an OFFCHAIN request."""
        return data if self.input_model is None else validated(self.input_model, data)

    def decode_onchain(self, data: bytes) -> object:
        """Return the workflow's input from ABI bytes: `(string)` by default, empty for no bytes."""
        return self.decode_offchain(decode_text(data) if data else "")

    def encode_onchain_input(self, data: object) -> bytes:
        """Return what a contract sends for an OFFCHAIN `data`: the bytes of `decode_onchain`.

        Raises `InvalidInput` for what a contract cannot say: by default, anything but a text.
        """
        input_data = self.decode_offchain(data)
        if isinstance(input_data, TextInput):
            if others := input_data.model_dump(exclude={"text"}, exclude_none=True):
                raise InvalidInput(f"a contract sends the text alone, without {', '.join(others)}")
            input_data = input_data.text
        if not isinstance(input_data, str):
            raise InvalidInput("a contract sends a text here, and nothing else")
        return encode_text(input_data)

    @property
    def body_formats(self) -> Mapping[bytes, BodyFormat]:
        """The forms beside JSON in which a web client may send an input and get its output."""
        return {}

    @property
    def has_onchain_input(self) -> bool:
        """Whether contracts can ask, in a form that `encode_onchain_input` writes.

        A class that overrides one of the two codecs alone has a form that nobody else knows.
        """
        reads, writes = (
            next(owner for owner in type(self).__mro__ if name in vars(owner))
            for name in ("decode_onchain", "encode_onchain_input")
        )
        model = self.input_model
        is_text = model is None or issubclass(model, TextInput)
        return reads is writes and (is_text or reads is not WorkflowInput)

    def input_schema(self) -> JsonSchemaValue | None:
        """Return the JSON Schema of OFFCHAIN `data`; None where anything is taken."""
        try:
            return None if self.input_model is None else self.input_model.model_json_schema()
        except PydanticInvalidForJsonSchema:  # of types that JSON Schema has no word for
            return None

    def example_input(self) -> object:
        """Return an OFFCHAIN `data` that is answered, None if none is known (yet)."""
        return None


def validated(model: type[Model], data: object) -> Model:
    """Return the `data` of a request as a model. Raises `InvalidInput` naming the fields."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(describe_faults(error, under="data")) from None
