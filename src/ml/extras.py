"""The extras of this distribution: the packages that a workflow needs beside the core's.

Their list is the one that pip installs by, so it stands in `pyproject.toml` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

__all__ = ["how_to_install", "is_installed", "missing_of_extra", "why_not_imported"]

_DISTRIBUTION = "infernet-ml-services"
#: A requirement of an extra, such as `sqlalchemy[asyncio]>=2.0; extra == 'trainer'`.
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*;.*\bextra == ['\"]([\w-]+)['\"]")


def missing_of_extra(extra: str) -> str | None:
    """Return which packages of an extra are not installed and how to install them, or None."""
    missing = [name for name in _packages().get(extra, ()) if not is_installed(name)]
    if not missing:
        return None
    verb = "are" if len(missing) > 1 else "is"
    return f"{', '.join(missing)} {verb} not installed: {how_to_install(extra)}"


def why_not_imported(error: ImportError) -> str:
    """Return a sentence for an import that failed, with the extra that brings what is missing."""
    name = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not name:
        return str(error)
    for extra, packages in _packages().items():
        if name in map(_module, packages):
            return f"{name} is not installed: {how_to_install(extra)}"
    return f"{error.name} is not installed"


@cache
def _packages() -> dict[str, list[str]]:
    """Return the packages of each extra; none where only the sources are on the path."""
    try:
        lines = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        lines = []
    found: dict[str, list[str]] = {}
    for package, extra in _requirements(lines):
        found.setdefault(extra, []).append(package)
    return found


def _requirements(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if match := _REQUIREMENT.match(line):
            yield match[1], match[2]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install '{_DISTRIBUTION}[{extra}]'"


def _module(package: str) -> str:
    return package.replace("-", "_")


def is_installed(package: str) -> bool:
    """Return whether a package, whose module is named as it, can be imported."""
    try:
        return find_spec(_module(package)) is not None
    except (ImportError, ValueError):  # the latter of modules that somebody put there by hand
        return False
