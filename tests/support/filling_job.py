"""A kind of job that writes to its folder until the disk is full, and one that is away then."""

from __future__ import annotations

from typing import Any

from ml.jobs.context import JobContext

__all__ = ["KIND", "run"]

KIND = __name__


def run(context: JobContext) -> dict[str, Any]:
    """Write; what was written is removed on the way out, as checkpoints are."""
    file = context.folder / "written"
    try:
        with file.open("wb", buffering=0) as growing:
            while True:
                growing.write(b"-" * 65536)
    finally:
        file.unlink()
