"""What a job's process is told by its environment, beside the job's id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Assignment"]

_STORE_URL, _FOLDER, _ATTEMPT = "JOB_STORE_URL", "JOB_FOLDER", "JOB_ATTEMPT"
_PARENT = "JOB_PARENT"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a job's record is, and where it works.

    Attributes:
        attempt: the one that the process does; None for the one that its record has.
        parent: the number of the process on the same host with which it is to end, if any.
    """

    store_url: str
    folder: Path
    attempt: int | None = None
    parent: int | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that say so."""
        variables = {_STORE_URL: self.store_url, _FOLDER: str(self.folder.absolute())}
        numbers = {_ATTEMPT: self.attempt, _PARENT: self.parent}
        return variables | {name: str(it) for name, it in numbers.items() if it is not None}

    @classmethod
    def from_environment(cls) -> Self:
        """Return what the variables of this process say."""
        numbers = (os.environ.get(name) for name in (_ATTEMPT, _PARENT))
        attempt, parent = (None if number is None else int(number) for number in numbers)
        return cls(os.environ[_STORE_URL], Path(os.environ[_FOLDER]), attempt, parent)
