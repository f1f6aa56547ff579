"""Files to be read by others, wherever they lie: in a folder of this host, or where hosts share."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

from ml.errors import NotFound
from ml.jobs.remote_files import RemoteFile, RemoteFiles

__all__ = ["FileHashes", "FilePlace", "LocalPlace", "RemotePlace", "StoredFile"]

_MOST_KNOWN = 10_000
_PART_BYTES = 1 << 20


class FilePlace(Protocol):
    """Where files lie, by names in which `/` parts folders.

    Attributes:
        changes: whether somebody may change a file there that is written.
    """

    changes: ClassVar[bool]

    def look(self, name: str) -> StoredFile | None:
        """Return a file, None if there is none."""

    def below(self, folder: str) -> Iterator[StoredFile]:
        """Give the files in a folder and those below it, of "" all, but hidden ones."""

    def open(self, file: StoredFile) -> BinaryIO:
        """Open one to be read; raises `NotFound` if it is gone, or another by now."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it is now; one that grows is as long as it was.

    Attributes:
        version: another one if the content is another.
        changed_at: seconds since 1970, None where that is not known.
    """

    place: FilePlace
    name: str
    size: int
    version: str
    changed_at: float | None = None

    def open(self) -> BinaryIO:
        """Open it to be read; raises `NotFound` if it is gone, or another by now."""
        return self.place.open(self)


class LocalPlace:
    """A folder of this host. Links in it are no files, and are not followed."""

    changes: ClassVar[bool] = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def look(self, name: str) -> StoredFile | None:
        """Return a file, None if there is none."""
        return None if self._is_linked(name.rpartition("/")[0]) else self._look(name)

    def below(self, folder: str) -> Iterator[StoredFile]:
        """Give the files in a folder and those below it."""
        if self._is_linked(folder):
            return
        for place, folders, names in os.walk(self._root / folder):
            folders[:] = filter(_is_told, folders)
            for name in names:
                inside = Path(place, name).relative_to(self._root).as_posix()
                if _is_told(name) and (file := self._look(inside)):
                    yield file

    def open(self, file: StoredFile) -> BinaryIO:
        """Open one to be read; raises `NotFound` for one that is gone, or another in its place."""
        try:
            found = os.fdopen(os.open(self._root / file.name, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except OSError:
            raise NotFound(f"{file.name!r} is deleted meanwhile.") from None
        now = os.fstat(found.fileno())
        has_grown = now.st_ino == _inode(file.version) and now.st_size > file.size
        if _version(now) != file.version and not has_grown:
            found.close()
            raise NotFound(f"{file.name!r} is replaced meanwhile; ask again.")
        return found

    def _look(self, name: str) -> StoredFile | None:
        with suppress(OSError):
            found = (self._root / name).lstat()
            if stat.S_ISREG(found.st_mode):
                changed_at = found.st_mtime_ns / 1e9
                return StoredFile(self, name, found.st_size, _version(found), changed_at)
        return None

    def _is_linked(self, folder: str) -> bool:
        way = itertools.accumulate(
            filter(None, folder.split("/")), lambda path, part: path / part, initial=self._root
        )
        return any(path.is_symlink() for path in itertools.islice(way, 1, None))


def _version(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}/{found.st_ino}"


def _inode(version: str) -> int:
    return int(version.rpartition("/")[2])


class RemotePlace:
    """A folder of the files that hosts share, which stay as they are written."""

    changes: ClassVar[bool] = False

    def __init__(self, files: RemoteFiles, folder: str) -> None:
        self._files = files
        self._folder = folder

    def look(self, name: str) -> StoredFile | None:
        """Return a file, None if there is none; raises `FilesAway`."""
        found = self._files.look(f"{self._folder}/{name}")
        return None if found is None else self._stored(name, found)

    def below(self, folder: str) -> Iterator[StoredFile]:
        """Give the files in a folder and those below it; raises `FilesAway`."""
        prefix = f"{folder}/" if folder else ""
        for inside, found in sorted(
            self._files.list(f"{self._folder}/{folder}".rstrip("/")).items()
        ):
            if all(map(_is_told, inside.split("/"))):
                yield self._stored(prefix + inside, found)

    def open(self, file: StoredFile) -> BinaryIO:
        """Open one to be read as it is needed; raises `NotFound` and `FilesAway`."""
        try:
            return self._files.open(f"{self._folder}/{file.name}")
        except FileNotFoundError:
            raise NotFound(f"{file.name!r} is deleted meanwhile.") from None

    def _stored(self, name: str, found: RemoteFile) -> StoredFile:
        return StoredFile(self, name, found.size, found.version, found.changed_at)


def _is_told(name: str) -> bool:
    """Return whether a name is none of a hidden file, and one that addresses and JSON can have."""
    return not name.startswith(".") and name.isprintable()


class FileHashes:
    """Knows the SHA-256 of files that it was asked for once, or told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[StoredFile, str] = {}

    def learn(self, file: StoredFile, sha256: str) -> None:
        """Take a hash from who has read the file."""
        self._known.setdefault(file, sha256)

    def sha256(self, file: StoredFile) -> str:
        """Return the SHA-256 of a file in hexadecimal, read once; raises as `open` does."""
        if known := self._known.get(file):
            return known
        with self._lock:  # one file at a time: the disk gives no more
            digest = self._known.get(file) or _sha256(file)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[file] = digest
            return digest


def _sha256(file: StoredFile) -> str:
    digest, left = hashlib.sha256(), file.size
    with file.open() as source:
        while left and (part := source.read(min(left, _PART_BYTES))):
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()
