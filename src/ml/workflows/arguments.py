"""A workflow's arguments as a model, whose faults are told together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Annotated, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ml.errors import ConfigurationError, did_you_mean, fault_lines
from ml.jobs.settings import JobSettings

__all__ = [
    "Arguments",
    "DottedPath",
    "Flag",
    "JobArguments",
    "Location",
    "Positive",
    "PositiveCount",
    "checked_arguments",
]

M = TypeVar("M", bound=BaseModel)


def _location(value: object) -> str:
    if not isinstance(value, str | PathLike) or not str(value).strip():
        raise ValueError("give a text that is not empty")
    return str(value)


def _dotted(value: str) -> str:
    if "." not in value:
        raise ValueError("give a dotted path such as package.Class")
    return value


#: A path, or the name of something that is elsewhere.
Location = Annotated[str, BeforeValidator(_location)]
#: A class or a function, such as `package.Class`.
DottedPath = Annotated[str, AfterValidator(_dotted)]
Flag = StrictBool
#: A number that is written as one.
Positive = Annotated[float, Field(gt=0, strict=True)]
PositiveCount = Annotated[int, Field(gt=0, strict=True)]


class Arguments(BaseModel):
    """The arguments of a workflow."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class JobArguments(Arguments, JobSettings):
    """Those of a workflow that has jobs."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_text_of_a_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what only the environment has, where all is text."""
        form = cls.model_fields[str(info.field_name)].annotation
        forms = {form, *get_args(form)}
        if isinstance(value, str) and forms & {int, float, bool}:
            raise ValueError("write it without quotes")
        if isinstance(value, bool) and forms & {int, float}:
            raise ValueError("give a number")
        return value


def checked_arguments(
    kind: type[M], beside: Collection[str] = (), under: str = "", /, **given: object
) -> M:
    """Return the arguments that a workflow was given, or those `under` one of them.

    Raises `ConfigurationError` with all faults, one a line: values that do not fit, and names that
    the model does not have. A wrong name may also be meant for one of those `beside` it; the
    model's `replaced` says what some names became.
    """
    where = f"{under}: " if under else ""
    known = list(kind.model_fields)
    replaced: Mapping[str, str] = getattr(kind, "replaced", {})
    faults = [
        f"{where}no such argument: {name!r}"
        + (f": {replaced[name]}" if name in replaced else did_you_mean(name, [*known, *beside]))
        for name in given
        if name not in known
    ]
    try:
        arguments = kind(**{name: given[name] for name in given if name in known})
    except ValidationError as error:
        faults += fault_lines(error, under=under)
    if faults:
        raise ConfigurationError("\n".join(faults))
    return arguments
