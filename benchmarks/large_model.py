"""A model of 537 MB, in files of torch and of ONNX."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

__all__ = ["large_model", "save_large_models"]

_WIDTHS = (69, *[4096] * 9, 2)


def large_model() -> nn.Sequential:
    """Return it; it takes rows of 69 float32 and returns 2 for each."""
    layers: list[nn.Module] = []
    for width, next_width in itertools.pairwise(_WIDTHS):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def save_large_models(folder: Path) -> None:
    """Write `model.torch`, `model.safetensors` and `model.onnx`, whose weights lie beside it."""
    torch.manual_seed(0)
    model = large_model()
    torch.save(model, folder / "model.torch")
    save_file(model.state_dict(), folder / "model.safetensors")
    _save_onnx(model, folder / "model.onnx")


def _save_onnx(model: nn.Sequential, file: Path) -> None:
    weights = [
        numpy_helper.from_array(tensor.numpy(), name) for name, tensor in model.state_dict().items()
    ]
    nodes, given = [], "x"
    for place, layer in enumerate(model):
        made = str(place)
        if isinstance(layer, nn.Linear):
            taken = [given, f"{place}.weight", f"{place}.bias"]
            nodes.append(helper.make_node("Gemm", taken, [made], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [given], [made]))
        given = made
    ends = (("x", _WIDTHS[0]), (given, _WIDTHS[-1]))
    taken, answered = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])]
        for name, width in ends
    )
    graph = helper.make_graph(nodes, "large", taken, answered, weights)
    opset = helper.make_opsetid("", 18)
    form = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.save_model(form, file, save_as_external_data=True, location="model.bin")
