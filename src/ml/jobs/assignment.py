"""What a job's process is told by its environment, beside the job's id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Assignment"]

_STORE_URL, _FOLDER, _PARENT = "JOB_STORE_URL", "JOB_FOLDER", "JOB_PARENT"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a job's record is, and where it works.

    Attributes:
        parent: the number of the process on the same host with which it is to end, if any.
    """

    store_url: str
    folder: Path
    parent: int | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that say so."""
        variables = {_STORE_URL: self.store_url, _FOLDER: str(self.folder.absolute())}
        return variables if self.parent is None else variables | {_PARENT: str(self.parent)}

    @classmethod
    def from_environment(cls) -> Self:
        """Return what the variables of this process say."""
        parent = os.environ.get(_PARENT)
        return cls(
            os.environ[_STORE_URL],
            Path(os.environ[_FOLDER]),
            None if parent is None else int(parent),
        )
