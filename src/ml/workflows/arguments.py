"""A workflow's arguments as a model, whose faults are told together."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ml.errors import ConfigurationError, fault_lines
from ml.workflows.loading import did_you_mean

__all__ = ["checked_arguments"]

M = TypeVar("M", bound=BaseModel)


def checked_arguments(kind: type[M], /, **given: Any) -> M:
    """Return the arguments that a workflow was given.

    Raises `ConfigurationError` with all faults, one a line: values that do not fit, and names that
    the model does not have.
    """
    known = list(kind.model_fields)
    faults = [
        f"no such argument: {name!r}{did_you_mean(name, known)}"
        for name in given
        if name not in known
    ]
    try:
        arguments = kind(**{name: given[name] for name in given if name in known})
    except ValidationError as error:
        faults += fault_lines(error)
    if faults:
        raise ConfigurationError("\n".join(faults))
    return arguments
