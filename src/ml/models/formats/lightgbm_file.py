"""Boosters of LightGBM in its own format, a text of numbers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml.errors import ConfigurationError
from ml.models.formats.trial_process import require_survivable
from ml.models.tensor_model import REAL, Label, TensorModel, TensorSpec, math_threads, unreadable

if TYPE_CHECKING:
    import lightgbm

__all__ = ["load_lightgbm"]

Array = npt.NDArray[Any]

_SIZES = re.compile(rb"^tree_sizes=([\d ]*)\r?\n\r?\n", re.MULTILINE)
_END = b"end of trees"


class _LightGBMModel:
    """Answers what `Booster.predict` does: of a binary classifier, the second probability."""

    runs_alike = True

    def __init__(self, booster: lightgbm.Booster) -> None:
        from lightgbm.basic import LightGBMError

        self.inputs = [TensorSpec("x", REAL, (None, booster.num_feature()))]
        self.outputs = ["predictions"]
        self.faults: tuple[type[Exception], ...] = (LightGBMError, ValueError)
        self._booster = booster
        self._options: dict[str, Any] = {"num_threads": math_threads()}

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        [rows] = arrays
        wide = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
        return [np.asarray(self._booster.predict(wide, **self._options))]

    def labels(self, output: str) -> Sequence[Label] | None:
        return None


def load_lightgbm(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load a file of `save_model`. Raises `ConfigurationError` for one that is none or damaged."""
    _require_whole(path)
    require_survivable(path, _load)
    return _load(path)


def _load(path: Path) -> TensorModel:
    import lightgbm

    lightgbm.register_logger(logging.getLogger("lightgbm"))  # in place of writing to stdout
    try:
        return _LightGBMModel(lightgbm.Booster(model_file=path))
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise unreadable(path, "a model of LightGBM", error) from error


def _require_whole(path: Path) -> None:
    """Raise `ConfigurationError` where not all trees are there that the file's head tells of.

    LightGBM answers with those that are left, or ends the process.
    """
    text = path.read_bytes()
    sizes = _SIZES.search(text)
    if not text.startswith(b"tree") or sizes is None:
        raise ConfigurationError(
            f"{path.name}: cannot be loaded as a model of LightGBM: it is none"
        )
    end = sizes.end() + sum(map(int, sizes[1].split()))
    if not text.startswith(_END, end):
        raise ConfigurationError(
            f"{path.name}: cannot be loaded as a model of LightGBM: it is damaged, or cut off"
        )
