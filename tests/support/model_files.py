"""Small model files of each library, and what the library itself answers for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WEIGHTS = np.array([[0.5, -0.25, 1.0], [0.1, 0.3, -0.2], [1.5, 0.0, 0.4], [-1.0, 2.0, 0.2]])
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]])


@dataclass(frozen=True)
class Saved:
    """A model file with four features.

    Attributes:
        due: the library's own answer for `ROWS`.
        dtype: of a request.
        answers: the dtype of the answer.
    """

    path: Path
    due: Array
    dtype: str = "double"
    answers: str = "double"
    labels: tuple[Any, ...] | None = None


def onnx_graph(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[Any] = (),
) -> Path:
    """Save a graph of ONNX."""
    from onnx import helper, save_model

    graph = helper.make_graph(nodes, "made_up", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def onnx_tensor(name: str, shape: Sequence[Any], kind: str = "FLOAT") -> Any:
    """Return what a graph takes or answers."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)


def linear_onnx(folder: Path) -> Saved:
    """Save a linear layer with a softmax."""
    from onnx import helper, numpy_helper

    path = onnx_graph(
        folder / "model.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])],
        [onnx_tensor("x", ["rows", 4])],
        [onnx_tensor("y", ["rows", 3])],
        [numpy_helper.from_array(WEIGHTS.astype(np.float32), "w")],
    )
    powers = np.exp(ROWS @ WEIGHTS)
    return Saved(path, powers / powers.sum(axis=1, keepdims=True), "float", "float")


def openvino_xml(folder: Path) -> Saved:
    """Save the same as OpenVINO's own."""
    import openvino

    saved = linear_onnx(folder)
    path = folder / "model.xml"
    openvino.save_model(openvino.Core().read_model(saved.path), path, compress_to_fp16=False)
    return replace(saved, path=path)


def flowers() -> tuple[Array, Array]:
    """Return scikit-learn's iris data, with its kinds as numbers."""
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def sklearn_skops(folder: Path) -> Saved:
    """Save a classifier of texts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from skops.io import dump

    rows, kinds = flowers()
    names = np.array(["setosa", "versicolor", "virginica"])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, names[kinds])
    path = folder / "model.skops"
    dump(model, path)
    return Saved(path, model.predict_proba(ROWS), labels=tuple(names.tolist()))


def xgboost_file(folder: Path, ending: str) -> Saved:
    """Save a booster whose training was stopped early."""
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=9, max_depth=2, early_stopping_rounds=2)
    rows, kinds = flowers()
    model.fit(rows[::2], kinds[::2], eval_set=[(rows[1::2], kinds[1::2][::-1])], verbose=False)
    assert model.best_iteration < 8
    path = folder / f"model{ending}"
    model.save_model(path)
    return Saved(path, model.predict_proba(ROWS), answers="float")


def lightgbm_txt(folder: Path) -> Saved:
    """Save a booster."""
    import lightgbm

    options = {"objective": "multiclass", "num_class": 3, "num_leaves": 4, "verbose": -1}
    booster = lightgbm.train(options, lightgbm.Dataset(*flowers()), 5)
    path = folder / "model.txt"
    booster.save_model(path)
    return Saved(path, booster.predict(ROWS))


def catboost_cbm(folder: Path) -> Saved:
    """Save a classifier of texts."""
    import catboost

    rows, kinds = flowers()
    names = np.array(["setosa", "versicolor", "virginica"])
    model = catboost.CatBoostClassifier(
        iterations=5, depth=2, thread_count=1, verbose=False, allow_writing_files=False
    )
    model.fit(rows, names[kinds])
    path = folder / "model.cbm"
    model.save_model(path)
    return Saved(path, model.predict_proba(ROWS), labels=tuple(names.tolist()))


MODELS: dict[str, Callable[[Path], Saved]] = {
    "onnxruntime": linear_onnx,
    "openvino": openvino_xml,
    "sklearn": sklearn_skops,
    "xgboost": partial(xgboost_file, ending=".json"),
    "xgboost-ubj": partial(xgboost_file, ending=".ubj"),
    "lightgbm": lightgbm_txt,
    "catboost": catboost_cbm,
}


def with_weights_beside(engine: str, folder: Path) -> Saved:
    """Save the linear layer with its weights in `model.bin`."""
    if engine == "openvino":
        saved = openvino_xml(folder)
        saved.path.with_suffix(".onnx").unlink()  # which it was made of
        return saved
    from onnx import load_model, save_model

    saved = linear_onnx(folder)
    options = {"save_as_external_data": True, "location": "model.bin", "size_threshold": 0}
    save_model(load_model(saved.path), saved.path, **options)
    return saved


def two_inputs_onnx(folder: Path) -> Path:
    """Save a graph that takes `x` and `count:0`, and answers `sum`, `is_more` and a text."""
    from onnx import TensorProto, helper

    return onnx_graph(
        folder / "two.onnx",
        [
            helper.make_node("Cast", ["count:0"], ["n"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["x", "n"], ["sum"]),
            helper.make_node("Greater", ["sum", "x"], ["is_more"]),
            helper.make_node("Cast", ["count:0"], ["text"], to=TensorProto.STRING),
        ],
        [onnx_tensor("x", ["rows", 3]), onnx_tensor("count:0", [1], "INT64")],
        [
            onnx_tensor("sum", ["rows", 3]),
            onnx_tensor("is_more", ["rows", 3], "BOOL"),
            onnx_tensor("text", [1], "STRING"),
        ],
    )
