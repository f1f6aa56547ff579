"""The input of a proof that is a job. It may be private, so it stands in no record and no log."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from ml.errors import NotFound
from ml.proving.worker import FOLDER_PREFIX

__all__ = ["JobInput"]


class JobInput:
    """A file in a job's folder that its user alone can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "input.json"

    def write(self, document: str) -> None:
        """Keep the JSON text of ezkl's `input_data`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:  # noqa: PTH123 (a descriptor, for its mode)
            file.write(document)

    def read(self) -> str:
        """Return the text. Raises `NotFound` once it was removed."""
        try:
            return self._path.read_text()
        except FileNotFoundError:
            raise NotFound("the proof's input is not there any more; send it again") from None

    def written_at(self) -> float | None:
        """Return when it was written, in seconds since 1970; None if there is no input."""
        with contextlib.suppress(OSError):
            return self._path.stat().st_mtime
        return None

    def discard(self) -> None:
        """Remove it, and what a process that was killed left of it."""
        self._path.unlink(missing_ok=True)
        self.discard_scratch()
        with contextlib.suppress(OSError):  # unless a log is in it, or it was never made
            self._folder.rmdir()

    def discard_scratch(self) -> None:
        """Remove the folders of workers that were killed."""
        for path in self._folder.glob(f"{FOLDER_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)
