"""The files in the input folder that can be training data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ml.finetuning.data.reading import FILE_ENDINGS

__all__ = ["InputFile", "can_be_data", "first_files", "input_files"]

#: Files that are listed, and entries of folders that are looked at for them.
_MOST_FILES, _MOST_ENTRIES = 1000, 20_000


@dataclass(frozen=True)
class InputFile:
    """A file by the name that a request has for it."""

    name: str
    bytes: int


def input_files(root: Path) -> tuple[list[InputFile], bool]:
    """Return the files under `root` that may be training data, and whether they are all.

    Left out is what no request can name: what begins with a dot, and links out of `root`.
    """
    entries = _entries(root, root.resolve())
    looked_at = list(islice(entries, _MOST_ENTRIES + 1))
    found, whole = first_files(file for file in looked_at[:_MOST_ENTRIES] if file is not None)
    return found, whole and len(looked_at) <= _MOST_ENTRIES


def first_files(files: Iterable[InputFile]) -> tuple[list[InputFile], bool]:
    """Return files by their names, as many as are listed, and whether they are all."""
    found = sorted(files, key=lambda file: file.name)
    return found[:_MOST_FILES], len(found) <= _MOST_FILES


def _entries(root: Path, inside: Path) -> Iterator[InputFile | None]:
    """Yield each entry below a folder: None for one that is no such file."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (None for _ in folders)
        for name in sorted(names):
            path = Path(folder, name)
            yield _file(path, path.relative_to(root).as_posix(), inside)


def can_be_data(name: str) -> bool:
    """Return whether a file of this name may be training data, and is not hidden."""
    return name.lower().endswith(FILE_ENDINGS) and not name.rpartition("/")[2].startswith(".")


def _file(path: Path, name: str, inside: Path) -> InputFile | None:
    try:
        if (
            not can_be_data(name)
            or "\\" in name
            or not path.resolve().is_relative_to(inside)
            or not path.is_file()
        ):
            return None
        name.encode()  # a name that is no UTF-8 cannot be sent
        size = path.stat().st_size
    except (OSError, RuntimeError, UnicodeEncodeError):  # gone meanwhile, or a loop of links
        return None
    return InputFile(name, size)
