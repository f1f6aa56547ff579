"""A llama's GGUF file as the folder that the Hugging Face hub would have, made without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["write_folder"]

_OF_LAYERS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OTHERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
_CONTROL = 3  # the type of a control token in GGUF


def write_folder(source: Path, folder: Path) -> None:
    """Write weights in bfloat16, config and tokenizer of a GGUF whose output is its embedding.

    Of the family of SmolLM: byte-level BPE, digits one by one.
    """
    import gguf

    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    folder.mkdir()
    _write_json(folder / "config.json", _config(fields))
    ends = {name: fields[f"tokenizer.ggml.{key}_token_id"] for name, key in _IDS.items()}
    _write_json(folder / "generation_config.json", ends)
    _write_weights(reader, fields, folder / "model.safetensors")
    tokenizer = _tokenizer(fields)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors leaves weights to their writer alone: no container's user


_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    heads = fields["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.embedding_length"] // heads,
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {
            "rope_theta": fields["llama.rope.freq_base"],
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
        "vocab_size": fields["llama.vocab_size"],
        **{name: fields[f"tokenizer.ggml.{key}_token_id"] for name, key in _IDS.items()},
    }


def _write_weights(reader: Any, fields: dict[str, Any], path: Path) -> None:
    import gguf
    from safetensors import TensorSpec, serialize_file

    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        name = _OTHERS.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{_OF_LAYERS[part]}.weight"
            if part in heads:
                values = _as_transformers_has_it(values, heads[part])
        tensors[name] = _bfloat16(values)
    specs = {
        name: TensorSpec(
            dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes
        )
        for name, bits in tensors.items()
    }
    serialize_file(specs, path, {"format": "pt"})


def _as_transformers_has_it(values: Any, heads: int) -> Any:
    """Undo how GGUF orders the rows of queries and keys: by pairs that are rotated together."""
    pairs = values.reshape(heads, -1, 2, values.shape[1])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _bfloat16(values: Any) -> Any:
    """Return the bits of the nearest bfloat16 of each float32, of the even one of two."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _tokenizer(fields: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = fields["tokenizer.ggml.tokens"]
    kinds = fields["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"]]
    unknown = tokens[fields["tokenizer.ggml.unknown_token_id"]]
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown))
    backend.decoder = decoders.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    controls = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in controls]
    )
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **{name: tokens[fields[f"tokenizer.ggml.{key}_token_id"]] for name, key in names.items()},
    )
    tokenizer.chat_template = fields["tokenizer.chat_template"]
    return tokenizer


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
