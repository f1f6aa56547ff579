"""Names that become paths."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["is_output_name", "model_name", "output_name", "same_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def output_name(value: str) -> str:
    """Return the folder's name of an `output_dir`, such as "results" of "./results".

    Raises `ValueError` for anything that is not one plain name, and for names that disks, or what
    lies beside a tuned model, have for something else.
    """
    name = value.removeprefix("./").rstrip("/")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{value!r} is no plain name of letters, digits, '.', '_' and '-'")
    if name.lower().endswith((".", ".zip")):
        raise ValueError(f"{value!r} ends in '.' or '.zip', as no model's name may")
    return name


def is_output_name(name: str) -> bool:
    """Return whether a tuned model can have this name, as it is written."""
    try:
        return output_name(name) == name
    except ValueError:
        return False


def model_name(value: str) -> str:
    """Return a model's name: `name` or `owner/name`, as on the hub.

    Raises `ValueError` for anything else.
    """
    parts = value.split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise ValueError(f"{value!r} is no name such as 'owner/model'")
    return value


def same_name(wished: Iterable[str], taken: Iterable[str]) -> str | None:
    """Return the first name that is taken of those that are wished, None if they are free.

    Upper and lower case count as one: some disks do not tell them apart, and people do not either.
    """
    folded = {name.casefold() for name in wished}
    return next((name for name in sorted(taken) if name.casefold() in folded), None)
