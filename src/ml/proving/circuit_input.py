"""The tensors of a circuit. Inputs are checked here: ezkl panics on wrong ones, or takes them.

`input_data` of ezkl is one flat list of numbers for each tensor.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ezkl_patches.field import signed
from ml.errors import InvalidInput
from ml.proving.failures import OutOfCircuitRange
from ml.proving.manifest import Manifest, TensorRecord

__all__ = ["MODEL_DTYPES", "input_document", "output_tensors"]

Array = npt.NDArray[Any]

#: The numpy dtype in which a model has a tensor of each of ezkl's types.
MODEL_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "Int": np.dtype(np.int64),
    "TDim": np.dtype(np.int64),
    "Bool": np.dtype(np.bool_),
}


def input_document(manifest: Manifest, tensors: Sequence[Array]) -> str:
    """Return the JSON text that ezkl reads, for one array for each input of the circuit.

    Integers are welcome where the circuit takes floats. Raises `InvalidInput` naming the limit for
    another number of tensors, another shape, booleans, complex numbers, fractions for an integer
    circuit, NaN and infinities; `OutOfCircuitRange` for numbers that are too large.
    """
    if len(tensors) != len(manifest.inputs):
        raise InvalidInput(
            f"the circuit takes {len(manifest.inputs)} tensors; given {len(tensors)}"
        )
    limit = manifest.decomp_base**manifest.decomp_legs
    columns = []
    for position, (tensor, due) in enumerate(zip(tensors, manifest.inputs, strict=True)):
        name = "values" if len(manifest.inputs) == 1 else f"values of tensor {position}"
        columns.append(_column(tensor, due, limit, name))
    return json.dumps({"input_data": columns}, allow_nan=False)


def output_tensors(manifest: Manifest, elements: Sequence[Sequence[str]]) -> list[Array]:
    """Return the outputs in the model's dtypes, of field elements in little-endian hex."""
    outputs = []
    for record, column in zip(manifest.outputs, elements, strict=True):
        integers = [signed(int.from_bytes(bytes.fromhex(text), "little")) for text in column]
        scaled = np.array([integer / 2**record.scale for integer in integers])
        outputs.append(scaled.astype(MODEL_DTYPES[record.dtype]).reshape(record.shape))
    return outputs


def _column(tensor: Array, due: TensorRecord, limit: int, name: str) -> list[Any]:
    if tensor.shape != due.shape:
        raise InvalidInput(
            f"{name}: the circuit takes shape {list(due.shape)}; given {list(tensor.shape)}"
        )
    dtype = MODEL_DTYPES[due.dtype]
    if tensor.dtype.kind not in ("iu" if dtype.kind == "i" else "fiu"):
        kind = "integers" if dtype.kind == "i" else "real numbers"
        raise InvalidInput(f"{name}: the circuit takes {kind}; given {tensor.dtype.name}")
    if not np.isfinite(tensor).all():
        raise InvalidInput(f"{name}: the circuit takes finite numbers; given NaN or infinity")
    largest = float(np.abs(tensor.astype(np.float64)).max(initial=0.0))
    if largest * 2.0**due.scale >= limit:
        raise OutOfCircuitRange(
            f"{name}: the circuit takes numbers within ±{limit / 2.0**due.scale:.6g}; "
            f"given {largest:.6g}"
        )
    column: list[Any] = tensor.astype(dtype).reshape(-1).tolist()
    return column
