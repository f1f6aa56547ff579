"""Copies of shared files on this host, kept while there is room for them."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import quote, unquote

from ml.jobs.remote_files import RemoteFile, RemoteFiles

__all__ = ["LocalCopies"]

#: In the folder with the copies: for each a note on what it is a copy of, as old as its last use.
_NOTES = ".copies"
#: What was asked for within this time may still be read.
_IN_USE_SECONDS = 300.0


class LocalCopies:
    """Copies in `folder` of what lies in `place` of the shared files, under the same names.

    A name is that of a file, or of a folder whose files are copied together. Once they have more
    than `most_bytes`, those go whose last use is longest ago. Several processes of a host may have
    copies in one folder.
    """

    def __init__(self, files: RemoteFiles, place: str, folder: Path, *, most_bytes: int) -> None:
        self.folder = folder
        self._files = files
        self._place = place
        self._most_bytes = most_bytes
        self._lock = threading.Lock()

    def file(self, name: str, found: RemoteFile) -> Path:
        """Return the copy of a file, made now unless it is there; raises `FileNotFoundError`."""
        target = self._target(name)
        with self._lock:
            if not self._has(name, {"": found}):
                self._files.download(f"{self._place}/{name}", target)
                self._note(name, {"": found})
        return target

    def tree(self, name: str, found: dict[str, RemoteFile]) -> Path:
        """Return the copy of a folder with these files; it appears whole."""
        target = self._target(name)
        with self._lock:
            if self._has(name, found):
                return target
            scratch = self.folder / f".{uuid.uuid4().hex}.partial"
            try:
                for inside in found:
                    self._files.download(f"{self._place}/{name}/{inside}", scratch / inside)
                _remove(target)
                scratch.rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            self._note(name, found)
        return target

    def forget(self, name: str) -> None:
        """Remove a copy, if there is one."""
        target = self._target(name)
        self._note_file(name).unlink(missing_ok=True)
        _remove(target)

    def _has(self, name: str, found: dict[str, RemoteFile]) -> bool:
        note, target = self._note_file(name), self._target(name)
        try:
            known = json.loads(note.read_text())
            sizes = {inside: (target / inside).stat().st_size for inside in found}
        except (OSError, ValueError):
            return False
        if known != _plain(found) or sizes != {name: one.size for name, one in found.items()}:
            return False
        note.touch()
        return True

    def _note(self, name: str, found: dict[str, RemoteFile]) -> None:
        note = self._note_file(name)
        note.parent.mkdir(parents=True, exist_ok=True)
        scratch = note.with_name(f".{uuid.uuid4().hex}")
        scratch.write_text(json.dumps(_plain(found)))
        scratch.replace(note)
        self._make_room()

    def _make_room(self) -> None:
        notes = [(note.stat().st_mtime, note) for note in (self.folder / _NOTES).glob("*.json")]
        bytes_left = self._most_bytes
        for used_at, note in sorted(notes, reverse=True):
            bytes_left -= sum(size for size, _ in json.loads(note.read_text()).values())
            if bytes_left < 0 and time.time() > used_at + _IN_USE_SECONDS:
                self.forget(unquote(note.stem))

    def _target(self, name: str) -> Path:
        folder = Path(os.path.normpath(self.folder))
        target = Path(os.path.normpath(folder / name))
        if folder not in target.parents:
            raise ValueError(f"{name!r} is no name of a file below another")
        return target

    def _note_file(self, name: str) -> Path:
        return self.folder / _NOTES / f"{quote(name, safe='')}.json"


def _plain(found: dict[str, RemoteFile]) -> dict[str, list[object]]:
    return {inside: [one.size, one.version] for inside, one in found.items()}


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        gone = target.with_name(f".{uuid.uuid4().hex}.partial")
        target.rename(gone)  # at once: nobody finds half of it
        shutil.rmtree(gone)
    else:
        target.unlink(missing_ok=True)
