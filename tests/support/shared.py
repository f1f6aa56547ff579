"""What is expensive to make, made once for all test processes of a run and kept in its folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

__all__ = ["VARIABLE", "made_once"]

#: Where the folder of this run is; a new one for each run, so nothing in it is stale.
VARIABLE = "TESTS_RUN_FOLDER"


def made_once(name: str, make: Callable[[Path], Any]) -> Path:
    """Return the file or folder of this name; whoever first asks makes it, the others wait.

    Do not alter it.
    """
    folder = Path(os.environ[VARIABLE])
    path, done = folder / name, folder / f"{name}.done"
    with FileLock(folder / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(path, ignore_errors=True)  # what a failed attempt left
            make(path)
            done.touch()
    return path
