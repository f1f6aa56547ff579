"""A loaded model of any library: named arrays in, arrays out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ml.errors import ConfigurationError

__all__ = [
    "REAL",
    "Array",
    "Dtype",
    "Label",
    "Load",
    "TensorModel",
    "TensorSpec",
    "math_threads",
    "unreadable",
]

#: Of any type of elements, which models differ in.
Array = npt.NDArray[Any]
Dtype = np.dtype[Any]
Label = str | int | float

#: What libraries take that compute with one type of their own and convert to it.
REAL = tuple(np.dtype(code) for code in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model takes under one name.

    Attributes:
        dtypes: those that it takes as they are, the one of its own first.
        shape: None for a dimension of any size; None as a whole for any shape.
    """

    name: str
    dtypes: tuple[Dtype, ...]
    shape: tuple[int | None, ...] | None

    @property
    def has_rows(self) -> bool:
        """Whether its first dimension may be of any size."""
        return bool(self.shape) and self.shape[0] is None  # type: ignore[index]


class TensorModel(Protocol):
    """A model that is loaded."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes, at least one."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """The names of what it answers, at least one."""
        ...

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """What the library raises where a model does not take its input."""
        ...

    @property
    def runs_alike(self) -> bool:
        """Whether a run takes as long as others on inputs as large, whatever their values are."""
        ...

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for the inputs, both in their order; texts are arrays of objects.

        Several threads may call it at once.
        """
        ...

    def labels(self, output: str) -> Sequence[Label] | None:
        """Return what the columns, or the whole numbers, of an output are called, if it is known.

        An output that only a run tells about is known after the first one.
        """
        ...


#: Loads a file; the names are of classes that it may hold. Raises `ConfigurationError`.
Load = Callable[[Path, Sequence[str]], TensorModel]


def math_threads() -> int:
    """Return how many threads one run may use, by `OMP_NUM_THREADS`; 0 leaves it to the library."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def unreadable(path: Path, kind: str, error: Exception) -> ConfigurationError:
    """Return the fault of a file that a library cannot load, with the library's first line."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
    return ConfigurationError(
        f"{path.name}: cannot be loaded as {kind}: {type(error).__name__}: {reason}"
    )
