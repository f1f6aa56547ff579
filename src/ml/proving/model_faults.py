"""Why ezkl cannot make a circuit of an ONNX model, and what to change.

Source: ezkl 23.0.5, which reads ONNX by tract and names a node at best.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["explain_model"]

#: The one symbolic dimension that ezkl gives a size to.
_KNOWN_DIMENSION = "batch_size"
_NODE = re.compile(r'node #\d+ "(?P<name>[^"]*)" (?P<operator>\w+)')


def explain_model(model: Path, message: str) -> str:
    """Return what is wrong with a model that ezkl refused with a message, and the fix if known."""
    import onnx

    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception:  # protobuf's own errors, whatever the file was
        return f"{model.name} is not an ONNX model"
    for reason in (_double_linear(graph), _half_floats(graph), _free_dimension(graph)):
        if reason:
            return reason
    if node := _NODE.search(message):
        operator, name = node["operator"], node["name"]
        return (
            f"the operator {operator} (node {name!r}) has no circuit in ezkl; "
            "leave it out of the exported model or express it by others"
        )
    return f"ezkl refuses the model: {message.rpartition('] ')[2]}"


def _double_linear(graph: Any) -> str | None:
    from onnx import TensorProto

    doubles = {
        tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.DOUBLE
    }
    for node in graph.node:
        if node.op_type == "Gemm" and doubles & set(node.input):
            return (
                f"node {node.name!r} is a float64 nn.Linear (Gemm), which ezkl cannot read: export "
                "a model with float32 weights (model.float(), and x.to(torch.float32) first in "
                "forward if inputs stay float64), or write the layer as x @ weight.T + bias"
            )
    return None


def _half_floats(graph: Any) -> str | None:
    from onnx import TensorProto

    kinds = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    for tensor in graph.initializer:
        if tensor.data_type in kinds:
            return f"the weights are 16-bit floats ({tensor.name}): export model.float()"
    return None


def _free_dimension(graph: Any) -> str | None:
    for tensor, dimension in _symbols(graph):
        if dimension != _KNOWN_DIMENSION:
            return (
                f"dimension {dimension!r} of input {tensor!r} has no size: export without "
                f"dynamic_axes, or name the batch axis {_KNOWN_DIMENSION!r}"
            )
    return None


def _symbols(graph: Any) -> Iterator[tuple[str, str]]:
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in weights:
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param:
                    yield value.name, dimension.dim_param
