"""Workflow outputs as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel

from ml.errors import InternalError

__all__ = ["as_text", "to_json"]

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def to_json(value: Any) -> bytes:
    """Return UTF-8 JSON of plain data, numpy arrays, dataclasses and pydantic models.

    NaN and infinity become null, because JSON has no word for them. Raises `InternalError` naming
    the type that JSON cannot hold: the workflow's author has to convert it.
    """
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS)
    except TypeError as error:
        raise InternalError(f"The workflow's output cannot be written as JSON: {error}") from error


def as_text(output: object) -> str:
    """Return an output as text: a string as it is, all else as JSON."""
    return output if isinstance(output, str) else to_json(output).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, np.ndarray | np.generic):  # not contiguous, or of a rare dtype
        return value.tolist()
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
