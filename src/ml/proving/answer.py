"""A proved answer as plain data, the same for a caller who waits and in the record of a job."""

from __future__ import annotations

from typing import Any

from ml.proving.manifest import Manifest
from ml.proving.prover import ProvedAnswer

__all__ = ["DTYPE_NAMES", "answer_document"]

#: What the tensors of requests call each of ezkl's types.
DTYPE_NAMES = {
    "F16": "half",
    "F32": "float",
    "F64": "double",
    "Int": "long",
    "TDim": "long",
    "Bool": "bool",
}


def answer_document(manifest: Manifest, proved: ProvedAnswer) -> dict[str, Any]:
    """Return an answer with its proof; hex begins with 0x, as Ethereum's tools have it.

    Several outputs are a list of tensors. Their `values` stay arrays, which JSON output writes.
    """
    values = proved.public_values
    tensors = [
        {"dtype": DTYPE_NAMES[record.dtype], "shape": list(record.shape), "values": output}
        for record, output in zip(manifest.outputs, proved.outputs, strict=True)
    ]
    return {
        "artifact": manifest.id,
        "outputs": tensors[0] if len(tensors) == 1 else tensors,
        "proof": _hex(proved.proof.proof),
        "calldata": _hex(proved.calldata),
        "public_values": {
            "instances": [_word(instance) for instance in proved.proof.instances],
            "inputs": values.inputs,
            "outputs": values.outputs,
            "input_hashes": [_word(value) for value in values.input_hashes],
            "parameter_hash": _word(values.parameter_hash),
            "output_hashes": [_word(value) for value in values.output_hashes],
        },
        "seconds": {name: round(value, 4) for name, value in proved.seconds.items()},
    }


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _word(element: int | None) -> str | None:
    return None if element is None else _hex(element.to_bytes(32, "big"))
