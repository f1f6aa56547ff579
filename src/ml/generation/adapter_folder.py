"""A folder with one adapter in each sub-folder."""

from __future__ import annotations

import errno
import filecmp
import re
import shutil
import uuid
from pathlib import Path
from typing import Protocol

from ml.errors import ConfigurationError, InvalidInput
from ml.generation.lora_file import CONFIG_FILE, WEIGHTS_FILE, LoraFile
from ml.generation.request import AdapterTaken, ModelNotFound

__all__ = ["AdapterFolder", "AdapterSource"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PARTIAL = ".partial"


class AdapterSource(Protocol):
    """Where adapters come from, of which the folder has copies."""

    def names(self) -> set[str]:
        """Return the names of all adapters."""

    def fetch(self, name: str) -> None:
        """Have the copy of an adapter as it is now in the folder, or none if there is none."""


class AdapterFolder:
    """Finds adapters by the names of their sub-folders; links may not lead out of `root`.

    Names have up to 100 letters, digits, `.`, `_` and `-`, the first a letter or digit. Raises
    `ConfigurationError` if there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigurationError(f"{root}: there is no such folder for adapters")
        self._root = root.resolve()
        #: None: what is in the folder is all that there is.
        self.source: AdapterSource | None = None

    def names(self) -> set[str]:
        """Return the names of the sub-folders that hold an adapter's files."""
        if self.source is not None:
            return self.source.names()
        return {
            folder.name
            for folder in self._root.iterdir()
            if self._resolve(folder.name) is not None
            and all((folder / file).is_file() for file in (CONFIG_FILE, WEIGHTS_FILE))
        }

    def find(self, name: str) -> LoraFile:
        """Return the adapter of a name. Raises `ModelNotFound` for a name without a sub-folder."""
        if self.source is not None and _NAME.fullmatch(name):
            self.source.fetch(name)
        folder = self._resolve(name)
        if folder is None:
            raise ModelNotFound(f"there is no adapter {name[:100]!r}")
        return LoraFile(name, folder)

    def scratch(self) -> Path:
        """Make a folder in which an adapter is written; nothing lists it."""
        folder = self._root / f".{uuid.uuid4().hex}{_PARTIAL}"
        folder.mkdir()
        return folder

    def check_name(self, name: str) -> None:
        """Raise `InvalidInput` for a name that no adapter can have."""
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                "name: give up to 100 letters, digits, '.', '_' and '-', the first one of the first"
            )

    def add(self, name: str, made: Path, *, replaces: bool) -> None:
        """Give a folder of `scratch` its name; what is the same already stays.

        Raises `AdapterTaken` where there is another one, unless it `replaces` that.
        """
        self.check_name(name)
        target = self._root / name
        files = (CONFIG_FILE, WEIGHTS_FILE)
        if filecmp.cmpfiles(made, target, files, shallow=False)[0] == list(files):
            return
        gone = made.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
        try:
            if replaces and target.exists():
                target.rename(gone)
            made.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise AdapterTaken(f"There is another adapter {name!r} here.") from None
        finally:
            shutil.rmtree(gone, ignore_errors=True)

    def _resolve(self, name: str) -> Path | None:
        if not _NAME.fullmatch(name):
            return None
        try:
            folder = (self._root / name).resolve(strict=True)
        except (OSError, RuntimeError):  # the latter for a loop of links, before Python 3.13
            return None
        return folder if folder.is_dir() and self._root in folder.parents else None
