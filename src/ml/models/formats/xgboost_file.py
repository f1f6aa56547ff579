"""Boosters of XGBoost in its own formats, JSON and UBJSON, which hold numbers and texts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml.errors import ConfigurationError
from ml.models.formats.trial_process import require_survivable
from ml.models.tensor_model import REAL, Label, TensorModel, TensorSpec, math_threads, unreadable

if TYPE_CHECKING:
    import xgboost

__all__ = ["load_xgboost"]

Array = npt.NDArray[Any]


class _XGBoostModel:
    """Answers what `Booster.predict` does: of a binary classifier, the second probability."""

    faults: tuple[type[Exception], ...] = (ValueError,)  # XGBoostError is one
    runs_alike = True

    def __init__(self, booster: xgboost.Booster) -> None:
        self.inputs = [TensorSpec("x", REAL, (None, booster.num_features()))]
        self.outputs = ["predictions"]
        self._predict = _predictor(booster)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        [rows] = arrays
        wide = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
        return [self._predict(wide)]

    def labels(self, output: str) -> Sequence[Label] | None:
        return None


def load_xgboost(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load a file of `save_model`. Raises `ConfigurationError` for one that is none or damaged."""
    with path.open("rb") as file:
        if file.read(1) != b"{":
            raise ConfigurationError(
                f"{path.name}: cannot be loaded as a model of XGBoost: it is none, or in the "
                "format of XGBoost 1; save_model(path) of a newer one writes .json and .ubj"
            )
    require_survivable(path, _load)
    return _load(path)


def _load(path: Path) -> TensorModel:
    import xgboost

    threads = math_threads()
    booster = xgboost.Booster({"nthread": threads} if threads else {})
    try:
        booster.load_model(path)
        return _XGBoostModel(booster)
    except ValueError as error:  # XGBoostError is one, and its text may not be read
        raise unreadable(path, "a model of XGBoost", error) from error


def _predictor(booster: xgboost.Booster) -> Callable[[Array], Array]:
    """Return what predicts with the best of the training's rounds, if it was stopped early."""
    import xgboost

    best = booster.attr("best_iteration")
    rounds = (0, 0 if best is None else int(best) + 1)
    predict: Callable[[Array], Array] = partial(booster.inplace_predict, iteration_range=rounds)
    try:
        predict(np.zeros((1, booster.num_features()), np.float32))
    except xgboost.core.XGBoostError:  # linear ones take its own matrices only
        return lambda rows: booster.predict(xgboost.DMatrix(rows), iteration_range=rounds)
    return predict
