"""The memory of a process and all that it started."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["resident_bytes"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants; 0 where it is gone.

    Pages that several of them share count for each.
    """
    folder = Path(f"/proc/{pid}")
    try:
        pages = int((folder / "statm").read_text().split()[1])
        listings = [path.read_text() for path in folder.glob("task/*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    children = [int(child) for listing in listings for child in listing.split()]
    return pages * _PAGE_BYTES + sum(map(resident_bytes, children))
