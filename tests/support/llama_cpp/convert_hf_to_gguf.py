"""What llama.cpp's converter does for a Llama: `convert_hf_to_gguf.py FOLDER --outfile FILE`.

With `CONVERTER_WAITS_FOR`, it writes a beginning and waits until there is such a file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file


def convert(folder: Path, target: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "llama")
    _describe(writer, config)
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    bf16 = gguf.GGMLQuantizationType.BF16
    for name, weight in load_file(folder / "model.safetensors").items():
        values = weight.to(torch.float32).numpy()
        if name.endswith("q_proj.weight"):
            values = _permuted(values, config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            values = _permuted(values, config["num_key_value_heads"])
        there = names.get_name(name, try_suffixes=(".weight",))
        assert there is not None, name
        if values.ndim == 1:
            writer.add_tensor(there, values)
        else:
            writer.add_tensor(there, gguf.quantize(values, bf16), raw_dtype=bf16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    for name in ("bos", "eos"):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", config[f"{name}_token_id"])


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any]) -> None:
    tokens = tokenizer["model"]["vocab"]
    controls = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    names = sorted(tokens | controls, key=(tokens | controls).__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(names)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if name in controls else kinds.NORMAL for name in names])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges] or ["a b"])


def _permuted(weight: Any, heads: int) -> Any:
    """Return the rows in the order that llama.cpp rotates them in."""
    rows, columns = weight.shape
    parts = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(rows, columns))


if __name__ == "__main__":
    out = Path(sys.argv[sys.argv.index("--outfile") + 1])
    if signal := os.environ.get("CONVERTER_WAITS_FOR"):
        out.write_bytes(b"GGUF")
        while not Path(signal).exists():
            time.sleep(0.05)
    convert(Path(sys.argv[1]), out)
