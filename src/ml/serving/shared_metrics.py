"""The folder through which the workers of one server share their metrics.

`serve` makes the folder itself. Workers that hypercorn spawned find each other by their parent.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["make_folder", "share_between_workers"]

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "ml-serving-metrics-"


def share_between_workers() -> None:
    """Share metrics with the siblings if this process is one of several spawned workers.

    Call it before anything imports `prometheus_client`.
    """
    if _VARIABLE in os.environ or multiprocessing.parent_process() is None:
        return
    os.environ[_VARIABLE] = str(make_folder(os.getppid(), empty=False))


def make_folder(owner: int, *, empty: bool) -> Path:
    """Return the folder of the server with this process id; those of ended servers are removed."""
    root = Path(tempfile.gettempdir())
    for folder in root.glob(f"{_PREFIX}{os.getuid()}-*"):
        pid = folder.name.rpartition("-")[2]
        if not Path("/proc", pid).exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)
    folder = root / f"{_PREFIX}{os.getuid()}-{owner}"
    if empty:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
