"""Folders made of GGUF files without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path
from tests.support.processes import ROOT

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from ml.models.gguf_folder import write_folder
write_folder(Path(sys.argv[1]), Path(sys.argv[2]))
"""
HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def save_gguf(path: Path) -> Path:
    """Write a small llama with random weights, as llama.cpp has it."""
    byte_tokens = sorted(AutoTokenizer.from_pretrained(embedded_llm_path()).get_vocab())
    letters = [token for token in byte_tokens if len(token) == 1]
    tokens = [*CONTROL, *letters, "he", "ll", "hell", "Ġhell"]
    merges = ["h e", "l l", "he ll", "Ġ hell"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(size=shape).astype(np.float32))

    add("token_embd.weight", len(tokens), HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{norm}.weight", HIDDEN)
        head = HIDDEN // HEADS
        add(f"blk.{layer}.attn_q.weight", HIDDEN, HIDDEN)
        add(f"blk.{layer}.attn_k.weight", KV_HEADS * head, HIDDEN)
        add(f"blk.{layer}.attn_v.weight", KV_HEADS * head, HIDDEN)
        add(f"blk.{layer}.attn_output.weight", HIDDEN, HIDDEN)
        add(f"blk.{layer}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        add(f"blk.{layer}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        add(f"blk.{layer}.ffn_down.weight", HIDDEN, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF file and the folder that was made of it by a Python without torch."""
    root = tmp_path_factory.mktemp("made")
    source, folder = save_gguf(root / "small.gguf"), root / "folder"
    command = [sys.executable, "-c", WITHOUT_TORCH, str(source), str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    return source, folder


def test_the_model_is_the_one_that_transformers_makes_of_the_file(made: tuple[Path, Path]) -> None:
    source, folder = made
    ours: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    theirs: Any = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16
    )
    state, expected = ours.state_dict(), theirs.state_dict()
    assert state.keys() == expected.keys()
    for name, weight in state.items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, expected[name]), name
    ids = torch.tensor([[1, 5, 9, 200]])
    with torch.inference_mode():
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)
    assert ours.generation_config.eos_token_id == 2


def test_its_tokenizer_splits_digits_and_knows_the_control_tokens(made: tuple[Path, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made[1])
    text = "hell hell 19 é<|im_end|>"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(text))
    assert tokens[:2] == ["hell", "Ġhell"]
    assert tokens[3:5] == ["1", "9"]
    assert tokens[-1] == "<|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert tokenizer.chat_template == TEMPLATE


def test_every_file_can_be_read_by_a_containers_user(made: tuple[Path, Path]) -> None:
    assert {path.stat().st_mode & 0o777 for path in made[1].iterdir()} == {0o644}


def test_the_embedded_model_is_there_with_16_and_8_bits() -> None:
    names = {path.name for path in embedded_llm_path().glob("*.gguf")}
    assert {f"{EMBEDDED_LLM}.F16.gguf", f"{EMBEDDED_LLM}.Q8_0.gguf"} <= names
