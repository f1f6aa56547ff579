"""ONNX files, run by ONNX Runtime: on a GPU where its package for that is installed.

Loading one runs no code of the file: its operators are the library's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml.errors import ConfigurationError
from ml.models.formats.onnx_operators import runs_alike
from ml.models.formats.onnx_weights import weight_files
from ml.models.tensor_model import Label, TensorModel, TensorSpec, math_threads, unreadable

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["load_mapped_onnx", "load_onnx"]

Array = npt.NDArray[Any]

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
#: Library messages that only a developer of it reads; a caller is told by the exception.
_FATAL = 4


class _ONNXModel:
    def __init__(self, session: onnxruntime.InferenceSession, *, runs_alike: bool) -> None:
        self._session = session
        self.runs_alike = runs_alike
        self.inputs = [_spec(given) for given in session.get_inputs()]
        self.outputs = [output.name for output in session.get_outputs()]
        self.faults = _exceptions()
        self._names = [spec.name for spec in self.inputs]
        self._labels: dict[str, tuple[Label, ...]] = {}

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        outputs = self._session.run(None, dict(zip(self._names, arrays, strict=True)))
        return [self._array(*pair) for pair in zip(self.outputs, outputs, strict=True)]

    def labels(self, output: str) -> Sequence[Label] | None:
        return self._labels.get(output)

    def _array(self, name: str, output: Any) -> Array:
        if isinstance(output, np.ndarray):
            return output
        # What a classifier's ZipMap gives: for each row, the classes with their probabilities.
        self._labels.setdefault(name, tuple(output[0]))
        return np.array([list(row.values()) for row in output], np.float32)


def load_onnx(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load an ONNX file; its weights may be in a file beside it.

    Raises `ConfigurationError` for a file that cannot be loaded, and for a model whose inputs are
    no tensors of numbers.
    """
    return _load(path, is_mapped=False)


def load_mapped_onnx(path: Path, classes: Sequence[str] = ()) -> TensorModel:
    """Load an ONNX file whose weights stay in the files beside it, mapped into memory.

    Raises `ConfigurationError` as `load_onnx` does, and where no file is beside it.
    """
    if not weight_files(path):
        raise ConfigurationError(
            f"{path.name}: mmap: its weights are in the file itself, which onnxruntime copies; "
            "save them beside it: onnx.save_model(model, path, save_as_external_data=True)"
        )
    return _load(path, is_mapped=True)


def _load(path: Path, *, is_mapped: bool) -> TensorModel:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = math_threads()
    options.log_severity_level = _FATAL
    # Threads that wait for the next run would take the cores from those who answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if is_mapped:  # else it copies them in an order that large batches are faster with
        options.add_session_config_entry("session.disable_prepacking", "1")
    there = onnxruntime.get_available_providers()
    due = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=due)
        if (fault := _fault(session)) is None:
            return _ONNXModel(session, runs_alike=runs_alike(path))
    except _exceptions() as error:
        raise unreadable(path, "an ONNX model", error) from error
    raise ConfigurationError(f"{path.name}: {fault}")


@cache
def _exceptions() -> tuple[type[Exception], ...]:
    """Return the library's exceptions, which have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type))
    return (*(kind for kind in found if issubclass(kind, Exception)), RuntimeError, ValueError)


def _fault(session: onnxruntime.InferenceSession) -> str | None:
    if not session.get_inputs():
        return "this model takes no input"
    for given in session.get_inputs():
        if given.type not in _DTYPES:
            return f"its input {given.name!r} is a {given.type}, which no request can hold"
    return None


def _spec(given: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in given.shape)
    return TensorSpec(given.name, (np.dtype(_DTYPES[given.type]),), shape)
