"""An embedding model with random weights and the embedded model's tokenizer."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

__all__ = ["save_in_openvinos_form", "save_tiny_embedder"]


def save_tiny_embedder(folder: Path, *, pooling: str | None = None) -> Path:
    """Write one to a folder, as a hub would have it."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from ml.models.embedded_llm import embedded_llm_path

    tokenizer = AutoTokenizer.from_pretrained(embedded_llm_path())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    return folder


def save_in_openvinos_form(source: Path, folder: Path) -> Path:
    """Write a model of transformers as OpenVINO reads it."""
    import openvino
    import torch
    from transformers import AutoModel

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(source, attn_implementation="eager")

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask)[0]

    example = {
        name: torch.ones((2, 3), dtype=torch.int64) for name in ("input_ids", "attention_mask")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the conversion uses what torch has deprecated
        converted = openvino.convert_model(States().eval(), example_input=example)
    openvino.save_model(converted, folder / "openvino_model.xml", compress_to_fp16=False)
    return folder
