"""GGUF files written anew with weights of other types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ml.models.gguf_weights import write_gguf

KINDS = gguf.GGMLQuantizationType
RANDOM = np.random.default_rng(0)
TENSORS = {
    "token_embd.weight": RANDOM.standard_normal((96, 64)),
    "output.weight": RANDOM.standard_normal((96, 64)),
    "blk.0.ffn_up.weight": RANDOM.standard_normal((48, 64)),
    "blk.0.ffn_down.weight": RANDOM.standard_normal((64, 48)),
    "blk.0.ffn_up_exps.weight": RANDOM.standard_normal((3, 5, 32)),
    "blk.0.attn_norm.weight": RANDOM.standard_normal(64),
}


def write(file: Path, *, without: str = "", alignment: int = 32) -> Path:
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_custom_alignment(alignment)
    writer.add_array("words", ["one", "two"])
    for name, values in TENSORS.items():
        if name == without:
            continue
        numbers = values.astype(np.float32)
        if values.ndim == 1:
            writer.add_tensor(name, numbers)
        else:
            writer.add_tensor(name, gguf.quantize(numbers, KINDS.BF16), raw_dtype=KINDS.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def read(file: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}


@pytest.mark.parametrize("weights", ["bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
@pytest.mark.parametrize("alignment", [32, 128])
def test_each_tensor_has_the_type_that_llama_cpp_has_for_it_and_is_near_what_it_was(
    weights: Any, alignment: int, tmp_path: Path
) -> None:
    write_gguf(write(tmp_path / "whole", alignment=alignment), tmp_path / "made", weights)
    wanted, found = KINDS[weights.upper()], read(tmp_path / "made")
    is_whole = weights in ("bf16", "f16")
    assert {name: tensor.tensor_type for name, tensor in found.items()} == {
        "token_embd.weight": wanted,
        "output.weight": wanted if is_whole else KINDS.Q8_0,
        "blk.0.ffn_up.weight": wanted,
        "blk.0.ffn_down.weight": wanted if is_whole else KINDS.F16,  # 48 are no whole blocks of 32
        "blk.0.ffn_up_exps.weight": wanted,
        "blk.0.attn_norm.weight": KINDS.F32,
    }
    bits = int(weights[1]) if weights.startswith("q") else 8
    for name, tensor in found.items():
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert values.shape == TENSORS[name].shape
        assert np.abs(values - TENSORS[name]).max() < 10 / 2**bits
        assert tensor.data_offset % alignment == 0
    fields = gguf.GGUFReader(tmp_path / "made").fields
    assert fields["words"].contents() == ["one", "two"]
    assert fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{wanted.name}"]


def test_where_the_embedding_is_the_output_it_has_eight_bits(tmp_path: Path) -> None:
    write_gguf(write(tmp_path / "whole", without="output.weight"), tmp_path / "made", "q4_0")
    assert read(tmp_path / "made")["token_embd.weight"].tensor_type is KINDS.Q8_0


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    source = write(tmp_path / "whole")

    def heed() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_gguf(source, tmp_path / "made", "q8_0", heed=heed)
