"""Variables for a process in a file that only its owner reads, because some of them are secret."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ml.jobs.remote_files import FilesAway, RemoteFiles

__all__ = ["EnvironmentFile", "SharedEnvironmentFile", "environment_file"]

_VARIABLE = "JOB_ENVIRONMENT_FILE"
#: Parts the address of shared files from a name in them.
_INSIDE = "/./"


def environment_file() -> EnvironmentFile | SharedEnvironmentFile | None:
    """Return the file that this process was given, if it was given one."""
    place = os.environ.get(_VARIABLE)
    if place is None:
        return None
    if "://" in place:
        url, _, name = place.rpartition(_INSIDE)
        return SharedEnvironmentFile(url, name)
    return EnvironmentFile(Path(place))


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A file for one process, which takes it away."""

    path: Path

    def variable(self) -> dict[str, str]:
        """Return the variable by which the process finds it."""
        return {_VARIABLE: str(self.path)}

    def write(self, variables: Mapping[str, str]) -> None:
        """Write it, instead of one that may be there."""
        scratch = self.path.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(dict(variables), file)
        scratch.replace(self.path)

    def take(self) -> None:
        """Take the variables over, and the file away."""
        os.environ.update(json.loads(self.path.read_text()))
        self.path.unlink()

    def discard(self) -> None:
        """Take the file away, if it is there."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class SharedEnvironmentFile:
    """The same among shared files, which whoever has their credentials can read.

    Every method raises as `RemoteFiles` does.
    """

    url: str
    name: str

    def variable(self) -> dict[str, str]:
        """Return the variable by which the process finds it."""
        return {_VARIABLE: f"{self.url}{_INSIDE}{self.name}"}

    def write(self, variables: Mapping[str, str]) -> None:
        """Write it, instead of one that may be there."""
        RemoteFiles(self.url).write(self.name, json.dumps(dict(variables)).encode())

    def take(self) -> None:
        """Take the variables over, and the file away."""
        files = RemoteFiles(self.url)
        text = files.read(self.name)
        if text is None:
            raise FileNotFoundError(self.name)
        os.environ.update(json.loads(text))
        files.delete([self.name])

    def discard(self) -> None:
        """Take the file away, if it is there and can be reached."""
        with contextlib.suppress(FilesAway):
            RemoteFiles(self.url).delete([self.name])
