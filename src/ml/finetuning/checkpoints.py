"""The checkpoints of a run: which are complete, which may go.

A checkpoint is written file by file, so a process that dies leaves half of one, under a name like
any other. The last file written is our marker with the size of each file; what has no such marker,
or other sizes, is no checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["MARKER", "Checkpoint", "Checkpoints"]

#: The last file of a checkpoint.
MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")
#: Without one of these a run cannot go on as if it had not been interrupted.
_NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
#: Each worker writes one; those of several are numbered.
_RANDOM = re.compile(r"rng_state(_\d+)?\.pth")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint, with the numbers that were the newest when it was written."""

    step: int
    folder: Path
    numbers: dict[str, Any]
    written_at: float


class Checkpoints:
    """The folder with a run's checkpoints, of which the newest `keep` are kept."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    @classmethod
    def of_job(cls, folder: Path, *, keep: int = 1) -> Self:
        """Return those in a job's folder."""
        return cls(folder / "checkpoints", keep=keep)

    def complete(self) -> list[Checkpoint]:
        """Return the complete checkpoints, oldest first."""
        found = (self._read(folder, step) for step, folder in self._folders())
        return sorted((one for one in found if one is not None), key=lambda one: one.step)

    def newest(self) -> Checkpoint | None:
        """Return the complete checkpoint with the most steps, if there is one."""
        return next(reversed(self.complete()), None)

    def mark_complete(self, step: int, numbers: Mapping[str, Any]) -> None:
        """Say that all files of a step's checkpoint are written."""
        folder = self.folder / f"checkpoint-{step}"
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        sizes.pop(MARKER, None)
        marker = {"files": sizes, "numbers": dict(numbers), "written_at": time.time()}
        text = json.dumps(marker)
        scratch = folder / f"{MARKER}.new"
        scratch.write_text(text)
        os.replace(scratch, folder / MARKER)  # noqa: PTH105  (it replaces what is there)

    def rotate(self, *, best_step: int | None = None) -> None:
        """Delete the oldest complete checkpoints but the newest `keep` and the best one."""
        for one in self.complete()[: -self._keep]:
            if one.step != best_step:
                shutil.rmtree(one.folder)

    def discard_incomplete(self) -> None:
        """Delete what a process that died, or a full disk, left half-written."""
        complete = {one.folder for one in self.complete()}
        for _, folder in self._folders():
            if folder not in complete:
                shutil.rmtree(folder)

    def _folders(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        names = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return [(int(match[1]), path) for match, path in names if match and path.is_dir()]

    def _read(self, folder: Path, step: int) -> Checkpoint | None:
        try:
            marker = json.loads((folder / MARKER).read_text())
            written_at = marker.get("written_at") or (folder / MARKER).stat().st_mtime
            sizes = marker["files"]
            whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not whole or not set(_NEEDED) <= set(sizes) or not any(map(_RANDOM.fullmatch, sizes)):
            return None
        return Checkpoint(step, folder, marker["numbers"], written_at)
