"""What a process writes to its standard streams, whether or not anybody reads them."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

__all__ = ["StandardOutput", "say"]


class StandardOutput(io.FileIO):
    """Standard output, on which what cannot be written is lost, and nothing else.

    The reader of a pipe ends, a disk is full: no request fails of that, and no drain.
    """

    def __init__(self) -> None:
        super().__init__(1, "wb", closefd=False)

    def write(self, data: Any, /) -> int:
        """Write all of it, and return its length."""
        left = whole = memoryview(data)
        with contextlib.suppress(OSError):
            while left and (written := super().write(left)):  # None: full, and does not block
                left = left[written:]
        return len(whole)


def say(text: str) -> None:
    """Write a line for a person to standard error, if that can be written."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
