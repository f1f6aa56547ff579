"""Files that are known by an id: training data that was uploaded, and the numbers of runs."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput, NotFound
from ml.finetuning.data.reading import FILE_ENDINGS
from ml.jobs.stored_file import FilePlace, LocalPlace, StoredFile

__all__ = ["RESULTS", "TRAINING_DATA", "Uploads", "check_name", "is_file_id"]

#: What a file is for, in OpenAI's words.
TRAINING_DATA, RESULTS = "fine-tune", "fine-tune-results"
_ID = re.compile(r"file-[0-9a-f]{24}")


def is_file_id(name: str) -> bool:
    """Return whether a data set's name is the id of an uploaded file."""
    return name.startswith("file-")


def check_name(name: str) -> None:
    """Raise `InvalidInput` unless a file of this name can be training data."""
    if Path(name).suffix.lower() not in FILE_ENDINGS:
        raise InvalidInput(f"file: the name ends in none of {', '.join(FILE_ENDINGS)}")


class Uploads:
    """The files in one folder, each beside an entry that makes it known.

    An entry is what OpenAI's API calls a file object.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scratch(self) -> Path:
        """Return where to write a file that is to be kept; nothing lists it before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".{uuid.uuid4().hex}.partial"

    def keep(self, scratch: Path, name: str, purpose: str = TRAINING_DATA) -> dict[str, Any]:
        """Return the entry of a file that was written, under a new id."""
        entry = self.new_entry(scratch, name, purpose)
        data, note = self.folder / self._data_name(entry), self.scratch()
        try:
            scratch.rename(data)
            note.write_text(json.dumps(entry))
            note.rename(self._entry_file(str(entry["id"])))  # last: it makes the file known
        except OSError:
            data.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            raise
        return entry

    @staticmethod
    def new_entry(scratch: Path, name: str, purpose: str) -> dict[str, Any]:
        """Return what is to be known of a file that was written."""
        return {
            "id": f"file-{uuid.uuid4().hex[:24]}",
            "object": "file",
            "bytes": scratch.stat().st_size,
            "created_at": int(time.time()),
            "filename": Path(name).name,
            "purpose": purpose,
            "status": "processed",
        }

    def list(self) -> list[dict[str, Any]]:
        """Return the entries, newest first."""
        entries = [json.loads(path.read_text()) for path in self.folder.glob("file-*.entry")]
        return sorted(entries, key=lambda entry: (entry["created_at"], entry["id"]), reverse=True)

    def entry(self, file_id: str) -> dict[str, Any]:
        """Return a file's entry; raises `NotFound`."""
        text = self._read_entry(file_id) if _ID.fullmatch(file_id) else None
        if text is None:
            raise NotFound(f"There is no file {file_id!r}.")
        entry: dict[str, Any] = json.loads(text)
        return entry

    def _read_entry(self, file_id: str) -> str | bytes | None:
        path = self._entry_file(file_id)
        return path.read_text() if path.is_file() else None

    def stored(self, entry: dict[str, Any]) -> StoredFile:
        """Return an entry's file, to be read; raises `NotFound` if it is gone."""
        found = self._place().look(self._data_name(entry))
        if found is None:
            raise NotFound(f"There is no file {entry['id']!r} any more.")
        return found

    def _place(self) -> FilePlace:
        return LocalPlace(self.folder)

    def delete(self, file_id: str) -> None:
        """Remove a file; raises `NotFound`."""
        entry = self.entry(file_id)
        self._entry_file(file_id).unlink(missing_ok=True)
        (self.folder / self._data_name(entry)).unlink(missing_ok=True)

    @staticmethod
    def _data_name(entry: dict[str, Any]) -> str:
        return f"{entry['id']}{Path(entry['filename']).suffix.lower()}"

    def _entry_file(self, file_id: str) -> Path:
        return self.folder / f"{file_id}.entry"
