"""Loading language models: what is refused, and what the error says."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ml.errors import ConfigurationError
from ml.models.causal_lm import CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM

WORDS = {"<end>": 0, "a": 1, "b": 2, "c": 3}


class Malicious:
    """Writes a marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def new_model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=99,
        eos_token_id=7,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with its tokenizer."""
    path = tmp_path / "model"
    new_model().save_pretrained(path)
    words = Tokenizer(WordLevel(WORDS, unk_token="<end>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(path)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA for the small model that is not zero."""
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    path = tmp_path / "adapter"
    get_peft_model(new_model(), config).save_pretrained(path)
    return path


def test_a_folder_is_loaded_with_its_ends_and_its_length(folder: Path) -> None:
    loaded = load_causal_lm(str(folder), CausalLMOptions(dtype="float32", device="cpu"))
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert set(loaded.end_tokens) == {7, 0}
    assert loaded.max_length == 99
    assert loaded.tokenizer.encode("b") == [2]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"dtype": "int8"}, "dtype\n  Input should be 'auto', 'bfloat16'"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_anything_is_loaded(
    arguments: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        CausalLMOptions(**{"device": "cpu", **arguments})


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=f"model '{missing}' cannot be loaded"):
        load_causal_lm(missing)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"model '{tmp_path}' cannot be loaded"):
        load_causal_lm(str(tmp_path))


def test_the_embedded_model_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"run python -m ml\.models\.embedded_llm"):
        load_causal_lm(EMBEDDED_LLM)


def test_weights_that_could_run_code_are_not_read(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    (folder / "model.safetensors").unlink()
    torch.save(Malicious(marker), folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"no file named model\.safetensors"):
        load_causal_lm(str(folder))
    assert not marker.exists()


def test_code_of_a_repository_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by somebody at the terminal who agrees to it."""
    marker = tmp_path / "it ran"
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        load_causal_lm(str(folder))
    assert not marker.exists()


def test_an_adapter_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=f"adapter '{missing}' cannot be loaded"):
        load_causal_lm(str(folder), CausalLMOptions(adapter=missing))
