"""Whether a library lives through a model file: it is loaded in a process of its own first.

Those in C++ follow the numbers of a file unchecked, so that a damaged one ends the process that
loads it, or keeps it for ever; a service would take its other models with it.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from ml.errors import ConfigurationError
from ml.models.tensor_model import TensorModel
from ml.parent_process import end_with_parent

__all__ = ["require_survivable"]

_SECONDS = 600
_ROWS = 64


def require_survivable(path: Path, load: Callable[[Path], TensorModel]) -> None:
    """Raise `ConfigurationError` for a file that ends the process that loads and runs it.

    `load` is a function of a module. What else may be wrong with a file it tells itself, later.
    A file that was tried is not tried again.
    """
    state = path.stat()
    if fault := _fault(path, load, (state.st_mtime_ns, state.st_size, state.st_ino)):
        raise ConfigurationError(
            f"{path.name}: cannot be loaded as a model: it is damaged: {fault}"
        )


@cache
def _fault(path: Path, load: Callable[[Path], TensorModel], _state: tuple[int, ...]) -> str | None:
    given = (str(os.getpid()), load.__module__, load.__name__, str(path))
    command = [sys.executable, "-P", "-m", __name__, *given]
    nowhere = subprocess.DEVNULL
    try:
        ended = subprocess.run(  # noqa: S603 (this module)
            command, stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=_SECONDS, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return f"its library is not done with it after {_SECONDS} s"
    return f"it ends its library by {signal.Signals(-ended).name}" if ended < 0 else None


def _try(parent: str, module: str, load: str, path: str) -> None:
    """Load a model and run it on rows that lead into most of its branches."""
    end_with_parent(int(parent), signal.SIGKILL)  # a file may keep its library for ever
    model: TensorModel = getattr(importlib.import_module(module), load)(Path(path))
    [spec] = model.inputs
    sizes = [_ROWS if size is None else size for size in spec.shape or ()]
    numbers = np.random.default_rng(0).choice([-1e9, 0.0, 1e9], sizes)
    model.run([numbers.astype(spec.dtypes[0])])


if __name__ == "__main__":
    _try(*sys.argv[1:])
