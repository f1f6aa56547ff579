"""GGUF files with weights of another type, as llama.cpp's own tools choose it for each tensor.

OpenVINO GenAI 2026.4 reads Q4_1 inexactly: the perplexity of the embedded model is then 17.0 in
place of 13.6. It reads Q8_0 as it is (13.7).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, ReaderTensor

    from ml.models.tensor_model import Array

__all__ = ["GGUFType", "bits_of", "write_gguf"]

#: By llama.cpp's names, those that need nothing but the package gguf to be made.
GGUFType = Literal["bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]

#: Of a weight, with its share of what its block has in common.
_BITS: dict[GGUFType, float] = {
    "bf16": 16,
    "f16": 16,
    "q8_0": 8.5,
    "q5_1": 6,
    "q5_0": 5.5,
    "q4_1": 5,
    "q4_0": 4.5,
}
#: What is in memory as float32 at once: 64 MiB.
_MOST_NUMBERS = 1 << 24


def bits_of(weights: GGUFType) -> float:
    """Return how many bits a weight of a type takes."""
    return _BITS[weights]


def write_gguf(
    source: Path,
    target: Path,
    weights: GGUFType,
    *,
    heed: Callable[[], object] = lambda: None,
) -> None:
    """Write a GGUF file anew, with all weights but those in F32 as others.

    llama.cpp keeps in F32 what is no matrix. What the tokens' probabilities come from has at least
    8 bits, and rows that are no whole number of blocks have 16. One tensor at a time is in memory;
    `heed` is called between its parts, and may raise.
    """
    import gguf
    import numpy as np

    wanted = gguf.GGMLQuantizationType[weights.upper()]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    _copy_fields(reader, writer, gguf.LlamaFileType[f"MOSTLY_{wanted.name}"])
    output = _output_of(reader)
    kinds = [_kind(tensor, wanted, is_output=tensor.name == output) for tensor in reader.tensors]
    for tensor, kind in zip(reader.tensors, kinds, strict=True):
        shape = _shape(tensor)
        size = math.prod(gguf.quant_shape_to_byte_shape(shape, kind))
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, kind in zip(reader.tensors, kinds, strict=True):
            heed()
            writer.write_tensor_data(_converted(tensor, kind, heed))
    finally:
        writer.close()
    target.chmod(0o644)  # for whichever user a container has


def _copy_fields(reader: GGUFReader, writer: GGUFWriter, file_type: int) -> None:
    import gguf

    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue  # which the writer gives
        kind = field.types[0]
        part = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
        value = file_type if name == "general.file_type" else field.contents()
        writer.add_key_value(name, value, kind, part)
    writer.data_alignment = int(reader.alignment)


def _output_of(reader: GGUFReader) -> str:
    """Return the name of the tensor that gives the tokens' probabilities."""
    names = {tensor.name for tensor in reader.tensors}
    return "output.weight" if "output.weight" in names else "token_embd.weight"


def _kind(
    tensor: ReaderTensor, wanted: GGMLQuantizationType, *, is_output: bool
) -> GGMLQuantizationType:
    import gguf

    kinds = gguf.GGMLQuantizationType
    if tensor.tensor_type is kinds.F32:
        return kinds.F32
    if is_output and wanted not in (kinds.F16, kinds.BF16):
        wanted = kinds.Q8_0  # llama.cpp has its Q6_K there, and this where rows do not fit that
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return kinds.F16 if _shape(tensor)[-1] % block else wanted


def _shape(tensor: ReaderTensor) -> list[int]:
    """Return a tensor's shape as numpy has it: GGUF begins with the length of a row."""
    return [int(length) for length in reversed(tensor.shape)]


def _converted(
    tensor: ReaderTensor, kind: GGMLQuantizationType, heed: Callable[[], object]
) -> Array:
    """Return the bytes of a tensor as another kind."""
    import gguf
    import numpy as np

    if tensor.tensor_type is kind:
        return tensor.data
    *lengths, length = _shape(tensor)
    rows = tensor.data.reshape(math.prod(lengths), -1)
    size = gguf.quant_shape_to_byte_shape([len(rows), length], kind)
    made = np.empty(size, np.uint8)
    step = max(1, _MOST_NUMBERS // length)
    for begin in range(0, len(rows), step):
        heed()
        numbers = gguf.dequantize(rows[begin : begin + step], tensor.tensor_type)
        made[begin : begin + step] = gguf.quantize(numbers, kind).view(np.uint8)
    return made
