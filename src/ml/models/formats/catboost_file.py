"""Models of CatBoost in its own binary format, a table of numbers and texts.

Its JSON is not read: of a file that is cut off, the library answers with what is left.
"""

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
    import catboost

__all__ = ["load_catboost"]

Array = npt.NDArray[Any]

_FIRST_BYTES = b"CBM1"


class _CatBoostModel:
    """Answers the probabilities of a classifier's classes; of another, what `predict` does."""

    runs_alike = True

    def __init__(self, model: catboost.CatBoost) -> None:
        from catboost import CatBoostError

        self.inputs = [TensorSpec("x", REAL, (None, len(model.feature_names_)))]
        self.faults: tuple[type[Exception], ...] = (CatBoostError, ValueError)
        self._classes: list[Label] = np.asarray(model.classes_).tolist()
        self.outputs = ["probabilities" if self._classes else "predictions"]
        method = model.predict_proba if self._classes else model.predict
        threads = math_threads() or -1
        self._predict: Callable[[Array], Array] = partial(method, thread_count=threads)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        [rows] = arrays
        wide = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
        return [np.asarray(self._predict(wide))]

    def labels(self, output: str) -> Sequence[Label] | None:
        return self._classes or None


def load_catboost(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load a file of `save_model`.

    Raises `ConfigurationError` for one that is none, and for a model of more than numbers.
    """
    with path.open("rb") as file:
        if file.read(len(_FIRST_BYTES)) != _FIRST_BYTES:
            raise ConfigurationError(
                f"{path.name}: cannot be loaded as a model of CatBoost: it is none in its binary "
                'format, which save_model(path, format="cbm") writes'
            )
    require_survivable(path, _load)
    return _load(path)


def _load(path: Path) -> TensorModel:
    from catboost import CatBoost, CatBoostClassifier, CatBoostError, CatBoostRegressor

    try:
        model = CatBoost().load_model(path)
        _require_numbers(path, model)
        kind = CatBoostClassifier if len(model.classes_) else CatBoostRegressor
        return _CatBoostModel(kind().load_model(path))
    except (CatBoostError, ValueError) as error:
        raise unreadable(path, "a model of CatBoost", error) from error


def _require_numbers(path: Path, model: catboost.CatBoost) -> None:
    others = {
        "categories": model.get_cat_feature_indices(),
        "texts": model.get_text_feature_indices(),
        "embeddings": model.get_embedding_feature_indices(),
    }
    for kind, positions in others.items():
        if positions:
            names = ", ".join(model.feature_names_[position] for position in positions)[:200]
            raise ConfigurationError(
                f"{path.name}: its features {names} are {kind}, which no tensor of numbers holds; "
                "train it on numbers alone"
            )
