"""Models of OpenVINO, and those of other formats that it reads, run on the CPU.

Loading one runs no code of the file: its operators are the library's own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml.errors import ConfigurationError
from ml.models.formats.onnx_weights import weight_files
from ml.models.openvino_arithmetic import SAME_ON_EVERY_CPU
from ml.models.tensor_model import Label, TensorModel, TensorSpec, math_threads, unreadable

if TYPE_CHECKING:
    import openvino  # type: ignore[import-untyped]

__all__ = ["files_of_openvino", "load_openvino"]

Array = npt.NDArray[Any]

#: By the library's names; it has types that neither numpy nor a request has.
_DTYPES = {
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "u8": np.uint8,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "boolean": np.bool_,
}


class _OpenVINOModel:
    faults: tuple[type[Exception], ...] = (RuntimeError, ValueError)
    runs_alike = False  # it may hold loops

    def __init__(self, model: openvino.CompiledModel) -> None:
        self.inputs = [_spec(place, port) for place, port in enumerate(model.inputs)]
        self.outputs = [_name(port, f"output_{i}") for i, port in enumerate(model.outputs)]
        self._model = model
        self._of_thread = threading.local()  # a request of the library's is one thread's

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._model.create_infer_request()
        results = request.infer(dict(enumerate(arrays)))
        return [results[place] for place in range(len(self.outputs))]

    def labels(self, output: str) -> Sequence[Label] | None:
        return None


def files_of_openvino(path: Path) -> list[str]:
    """Return the names of the files beside a model's, which hold its weights."""
    return weight_files(path) if path.suffix.lower() == ".onnx" else [f"{path.stem}.bin"]


def load_openvino(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load an `.xml` with its `.bin`, or an ONNX file.

    Raises `ConfigurationError` for a file that cannot be loaded, and for a model whose inputs are
    no tensors of numbers.
    """
    import openvino

    # Else it computes with 16 bits where the processor can.
    options: dict[str, Any] = {**SAME_ON_EVERY_CPU, "PERFORMANCE_HINT": "LATENCY"}
    if threads := math_threads():
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        model = openvino.Core().compile_model(path, "CPU", options)
        if (fault := _fault(model)) is None:
            return _OpenVINOModel(model)
    except (RuntimeError, ValueError) as error:  # the latter for names that cannot be read
        raise unreadable(path, "a model of OpenVINO", error) from error
    raise ConfigurationError(f"{path.name}: {fault}")


def _fault(model: openvino.CompiledModel) -> str | None:
    for place, port in enumerate(model.inputs):
        if (kind := port.get_element_type().get_type_name()) not in _DTYPES:
            name = _name(port, f"input_{place}")
            return f"its input {name!r} is a tensor of {kind}, which no request can hold"
    return None


def _spec(place: int, port: Any) -> TensorSpec:
    kind = port.get_element_type().get_type_name()
    shape = port.get_partial_shape()
    sizes = None
    if not shape.rank.is_dynamic:
        sizes = tuple(None if size.is_dynamic else size.get_length() for size in shape)
    return TensorSpec(_name(port, f"input_{place}"), (np.dtype(_DTYPES[kind]),), sizes)


def _name(port: Any, default: str) -> str:
    return min(port.get_names(), default=default)
