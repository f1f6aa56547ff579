"""Calibration data: inputs as they come in practice, by which scales and rows are chosen.

A JSON file of ezkl's form, `{"input_data": [[…], …]}`: for each tensor one flat list that holds the
values of one or several inputs, one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from ml.errors import ConfigurationError

__all__ = ["first_input", "read_calibration"]


def read_calibration(path: Path) -> list[list[float]]:
    """Return the numbers of each tensor. Raises `ConfigurationError` that says what is wrong."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: not valid JSON: {error}") from None
    columns = document.get("input_data") if isinstance(document, dict) else None
    if not isinstance(columns, list) or not columns:
        raise ConfigurationError(f'{path}: expected {{"input_data": [[numbers of a tensor], …]}}')
    for column in columns:
        if not isinstance(column, list) or not column or not all(map(_is_number, column)):
            raise ConfigurationError(
                f"{path}: input_data: expected a flat list of finite numbers for each tensor"
            )
    return columns


def first_input(columns: Sequence[Sequence[float]], sizes: Sequence[int]) -> list[list[float]]:
    """Return the first input of calibration data; `sizes` are those of the model's tensors.

    Raises `ConfigurationError` unless each tensor has the values of the same number of inputs.
    """
    if len(columns) != len(sizes):
        raise ConfigurationError(
            f"calibration: the model takes {len(sizes)} tensors; the data has {len(columns)}"
        )
    counts = [len(column) / size for column, size in zip(columns, sizes, strict=True)]
    if len(set(counts)) > 1 or not counts[0].is_integer():
        due = " and ".join(map(str, sizes))
        given = " and ".join(str(len(column)) for column in columns)
        raise ConfigurationError(
            f"calibration: expected a multiple of {due} numbers; the data has {given}"
        )
    return [list(column[:size]) for column, size in zip(columns, sizes, strict=True)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
