"""Files that are known by an id, on whichever host they were uploaded."""

from __future__ import annotations

import builtins
import contextlib
import json
from pathlib import Path
from typing import Any

from ml.finetuning.uploads import TRAINING_DATA, Uploads
from ml.jobs.local_copies import LocalCopies
from ml.jobs.remote_files import RemoteFiles
from ml.jobs.stored_file import FilePlace, RemotePlace

__all__ = ["SharedUploads"]

_PLACE = "files"


class SharedUploads(Uploads):
    """The files in `files/` of the shared ones; the folder of the `copies` has some of them."""

    def __init__(self, files: RemoteFiles, copies: LocalCopies) -> None:
        super().__init__(copies.folder)
        self.copies = copies
        self._files = files

    def keep(self, scratch: Path, name: str, purpose: str = TRAINING_DATA) -> dict[str, Any]:
        """Return the entry of a file that was written, under a new id."""
        entry = self.new_entry(scratch, name, purpose)
        self._files.upload(scratch, f"{_PLACE}/{self._data_name(entry)}")
        # Last: it makes the file known.
        self._files.write(self._entry_there(entry["id"]), json.dumps(entry).encode())
        scratch.unlink()
        return entry

    def list(self) -> builtins.list[dict[str, Any]]:
        """Return the entries, newest first."""
        there = {name for name in self._files.list(_PLACE) if name.endswith(".entry")}
        here = {path.name for path in self.folder.glob("file-*.entry")}
        for name in here - there:
            (self.folder / name).unlink(missing_ok=True)
        for name in there - here:  # they never change
            with contextlib.suppress(FileNotFoundError):  # it is deleted meanwhile
                self._files.download(f"{_PLACE}/{name}", self.folder / name)
        return super().list()

    def delete(self, file_id: str) -> None:
        """Remove a file; raises `NotFound`."""
        entry = self.entry(file_id)
        name = self._data_name(entry)
        self._files.delete([self._entry_there(file_id), f"{_PLACE}/{name}"])
        self.copies.forget(name)

    def _place(self) -> FilePlace:
        return RemotePlace(self._files, _PLACE)

    def _read_entry(self, file_id: str) -> bytes | None:
        return self._files.read(self._entry_there(file_id))

    @staticmethod
    def _entry_there(file_id: str) -> str:
        return f"{_PLACE}/{file_id}.entry"
