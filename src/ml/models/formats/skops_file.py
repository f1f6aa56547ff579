"""Models of scikit-learn in the files of skops, which name the types that they hold.

skops builds objects of types that it knows to be harmless, and of those that are allowed besides.
It does not know trees to be so, because scikit-learn follows the indices in them unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.errors import ConfigurationError
from ml.models.tensor_model import REAL, Label, TensorModel, TensorSpec, unreadable

__all__ = ["load_skops"]

Array = npt.NDArray[Any]


class _SklearnModel:
    """Answers probabilities where the model has them, else predictions, else what it transforms."""

    faults: tuple[type[Exception], ...] = (ValueError, TypeError)
    runs_alike = False  # its classes may do anything

    def __init__(self, model: Any, method: str) -> None:
        width = getattr(model, "n_features_in_", None)
        self.inputs = [TensorSpec("x", REAL, (None, width))]
        self.outputs = ["probabilities" if method == "predict_proba" else method]
        self._predict: Callable[[Any], Any] = getattr(model, method)
        self._classes: Any = getattr(model, "classes_", None)
        self._column_names = getattr(model, "feature_names_in_", None)
        self._has_labels = method == "predict_proba" or _are_texts(self._classes)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        [rows] = arrays
        answer = self._predict(rows if self._column_names is None else self._frame(rows))
        dense: Array = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
        if _are_texts(dense) and _are_texts(self._classes):
            return [np.searchsorted(self._classes, dense)]
        return [dense]

    def labels(self, output: str) -> Sequence[Label] | None:
        return self._classes.tolist() if self._has_labels else None

    def _frame(self, rows: Array) -> Any:
        """Return rows as the model was trained on: its steps may ask for columns by their names."""
        import pandas as pd

        return pd.DataFrame(rows, columns=self._column_names, copy=False)


def load_skops(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load a file of `skops.io.dump`.

    Raises `ConfigurationError` for a file that is none, for types that are not allowed, with their
    names, and for an object that answers nothing.
    """
    from skops.io import get_untrusted_types, load

    try:
        unknown = get_untrusted_types(file=path)
        refused = sorted(set(unknown) - set(classes))
        model = None if refused else load(path, trusted=unknown)
    except Exception as error:
        raise unreadable(path, "a model of skops", error) from error
    if refused:
        raise ConfigurationError(
            f"{path.name}: the file uses {', '.join(refused)}, which is not allowed. If you trust "
            "it, add it to safe_classes."
        )
    return _SklearnModel(model, _method(path, model))


def _method(path: Path, model: Any) -> str:
    """Return what answers. Of several targets, scikit-learn's probabilities are no array."""
    one_target = isinstance(getattr(model, "classes_", None), np.ndarray)
    due = (*(["predict_proba"] if one_target else []), "predict", "transform")
    for method in due:
        if callable(getattr(model, method, None)):
            return method
    kind = type(model).__name__
    raise ConfigurationError(
        f"{path.name}: this holds an object of type {kind}, which has no {' or '.join(due)}"
    )


def _are_texts(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "OU"
