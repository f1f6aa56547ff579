"""Small model files of each library, and what the library itself answers for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


MODELS: dict[str, Callable[[Path], Saved]] = {
    "onnxruntime": linear_onnx,
}
