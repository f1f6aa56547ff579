"""Names that become paths."""

from __future__ import annotations

import re

__all__ = ["model_name", "output_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def output_name(value: str) -> str:
    """Return the folder's name of an `output_dir`, such as "results" of "./results".

    Raises `ValueError` for anything that is not one plain name.
    """
    name = value.removeprefix("./").rstrip("/")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"output_dir: {value!r} is no plain name of letters, digits, '.', '_' and '-'"
        )
    return name


def model_name(value: str) -> str:
    """Return a model's name: `name` or `owner/name`, as on the hub.

    Raises `ValueError` for anything else.
    """
    parts = value.split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise ValueError(f"model_name: {value!r} is no name such as 'owner/model'")
    return value
