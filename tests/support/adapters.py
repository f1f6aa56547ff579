"""A small model with random weights in float32, and adapters that peft makes for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from ml.generation.adapters import Adapters

MAX_LENGTH = 512
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
#: By name: what is given to peft, besides what all have.
SHAPES: dict[str, dict[str, Any]] = {
    "all-linear": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
    "attention": {"r": 16, "lora_alpha": 4, "target_modules": ATTENTION},
    "rslora": {"r": 6, "lora_alpha": 5, "use_rslora": True, "target_modules": "all-linear"},
    "output": {"r": 2, "lora_alpha": 3, "target_modules": ["down_proj", "lm_head"]},
    "patterns": {
        "r": 3,
        "lora_alpha": 6,
        "target_modules": ATTENTION,
        "rank_pattern": {"q_proj": 7, "model.layers.1.self_attn.o_proj": 1},
        "alpha_pattern": {"layers.0.self_attn.v_proj": 9},
    },
}


def new_model(hidden_size: int = 64) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=hidden_size,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
    )
    return LlamaForCausalLM(config).eval()


def save_adapter(folder: Path, *, seed: int = 0, hidden_size: int = 64, **shape: Any) -> None:
    """Write an adapter that changes the model's answers, as peft does it."""
    given = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION} | shape
    config = peft.LoraConfig(task_type="CAUSAL_LM", **given)
    model = peft.get_peft_model(new_model(hidden_size), config)
    torch.manual_seed(1000 + seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder, save_embedding_layers=False)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def loaded(adapters: Adapters) -> set[str]:
    return {one.name for one in adapters.available() if one.loaded}


def in_use(adapters: Adapters) -> set[str]:
    return {one.name for one in adapters.available() if one.in_use}
