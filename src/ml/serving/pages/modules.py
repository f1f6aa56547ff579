"""The modules that a page's script imports, so that a browser asks for all of them at once."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["imported"]

#: An import stands on a line of its own, as all of ours do.
_IMPORT = re.compile(r'^import .*"([^"]+)";$', re.MULTILINE)


def imported(files: Mapping[str, Path], address: str) -> list[str]:
    """Return the addresses of the modules that one imports, by itself or through others.

    `files` has the file of each address.
    """
    found = [address]
    for one in found:
        for name in _IMPORT.findall(files[one].read_text(encoding="utf-8")):
            other = posixpath.normpath(posixpath.join(posixpath.dirname(one), name))
            if other in files and other not in found:
                found.append(other)
    return found[1:]
