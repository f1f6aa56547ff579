"""Variables for a process in a file that only its owner reads, because some of them are secret."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["EnvironmentFile"]

_VARIABLE = "JOB_ENVIRONMENT_FILE"


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A file for one process, which takes it away."""

    path: Path

    def variable(self) -> dict[str, str]:
        """Return the variable by which the process finds it."""
        return {_VARIABLE: str(self.path)}

    @classmethod
    def of_this_process(cls) -> Self | None:
        """Return the file that this process was given, if it was given one."""
        path = os.environ.get(_VARIABLE)
        return None if path is None else cls(Path(path))

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
