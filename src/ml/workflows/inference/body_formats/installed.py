"""The forms that the installed packages read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

from ml.workflows.inference.body_formats.arrow_format import ArrowFormat
from ml.workflows.inference.body_formats.body_format import BodyFormat
from ml.workflows.inference.body_formats.npy import NpyFormat
from ml.workflows.inference.body_formats.safetensors_format import SafetensorsFormat

__all__ = ["tensor_formats"]

#: Each with the package that reads it; numpy is always there.
_FORMATS: tuple[tuple[BodyFormat, str], ...] = (
    (NpyFormat(), "numpy"),
    (SafetensorsFormat(), "safetensors"),
    (ArrowFormat(), "pyarrow"),
)


@cache
def tensor_formats() -> Mapping[bytes, BodyFormat]:
    """Return the forms by their content types."""
    return {form.media_type: form for form, package in _FORMATS if find_spec(package)}
