"""What the JSON files of a model's folder may say, and what is told of those that are at fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.models.causal_lm import CausalLMOptions, load_causal_lm
from ml.models.convert import _group_size
from ml.models.openvino_model import OpenVINOModel, load_openvino_model
from ml.models.text_embedder import TextEmbedder
from ml.models.vllm_model import load_vllm_model
from tests.support.tiny_embedder import save_tiny_embedder
from tests.support.tiny_llm import save_tiny_llm

GOOD = {"vocab_size": 100, "max_position_embeddings": 64, "eos_token_id": 3}
#: What a `config.json` holds, and what is told behind its path.
FAULTS: list[tuple[str, str]] = [
    ("{", " is no JSON: "),
    ("[]", ": give an object"),
    ("null", ": give an object"),
    ("{}", ": vocab_size: Field required"),
    ('{"vocab_size": null}', ": vocab_size: Field required"),
    ('{"vocab_size": "many"}', ": vocab_size: Input should be a valid integer"),
    ('{"vocab_size": true}', ": vocab_size: Input should be a valid integer"),
    ('{"vocab_size": -5}', ": vocab_size: Input should be greater than 0"),
    ('{"vocab_size": 9, "max_position_embeddings": 0}', ": max_position_embeddings: "),
    ('{"vocab_size": 9, "eos_token_id": "<end>"}', ": eos_token_id"),
    ('{"text_config": 5}', ": vocab_size: Field required"),
    ('{"text_config": {"vocab_size": []}}', ": vocab_size: Input should be a valid integer"),
]


def loaded(folder: Path, config: Any, **others: Any) -> OpenVINOModel:
    """Return a model of OpenVINO's with this config, as it lies, and with other files."""
    (folder / "openvino_model.xml").write_text("<net/>")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, content in others.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return load_openvino_model(str(folder))


@pytest.mark.parametrize(("config", "told"), FAULTS)
def test_a_config_at_fault_is_named_with_its_fault(tmp_path: Path, config: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, config)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}{told}")


def test_a_generation_config_at_fault_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, GOOD, generation_config=[])
    assert str(caught.value) == f"{tmp_path / 'generation_config.json'}: give an object"


def test_null_is_as_good_as_left_out(tmp_path: Path) -> None:
    model = loaded(tmp_path, GOOD | {"max_position_embeddings": None, "eos_token_id": None})
    assert (model.vocabulary, model.max_length, model.configured_ends) == (100, 2048, None)


def test_infinity_is_taken_where_we_read_nothing(tmp_path: Path) -> None:
    """Python writes it into configs so."""
    model = loaded(tmp_path, '{"vocab_size": 5, "time_step_limit": [0.0, Infinity]}')
    assert model.vocabulary == 5


def test_what_is_said_of_the_text_counts(tmp_path: Path) -> None:
    config = {"eos_token_id": [1, 2], "vocab_size": 5, "text_config": {"vocab_size": 7}}
    model = loaded(tmp_path, config)
    assert (model.vocabulary, model.configured_ends) == (7, [1, 2])
    model = loaded(tmp_path, config, generation_config={"eos_token_id": 4})
    assert (model.vocabulary, model.configured_ends) == (7, 4)


@pytest.mark.parametrize("config", ["[]", "{", '{"hidden_size": "wide"}'])
def test_what_is_to_be_converted_is_told_of_its_config_too(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        _group_size(tmp_path)


BROKEN: list[tuple[str, Any]] = [
    ("config.json", []),
    ("config.json", None),
    ("config.json", {"vocab_size": None}),
    ("config.json", {"max_position_embeddings": 0}),
    ("config.json", {"num_attention_heads": 0}),
    ("config.json", {"quantization_config": 5}),
    ("tokenizer.json", []),
    ("tokenizer_config.json", []),
]


@pytest.mark.parametrize("kind", ["transformers", "vllm", "embedder"])
def test_whatever_transformers_raises_over_damaged_files_is_a_configuration_error(
    tmp_path: Path, kind: str
) -> None:
    save = save_tiny_embedder if kind == "embedder" else save_tiny_llm
    folder = save(tmp_path / "model")
    name = str(folder)
    load = {
        "embedder": lambda: TextEmbedder(name).load(),
        "vllm": lambda: load_vllm_model(name, CausalLMOptions()),
    }.get(kind, lambda: load_causal_lm(name))
    for file, content in BROKEN:
        whole = (folder / file).read_text()
        changed = json.loads(whole) | content if isinstance(content, dict) else content
        (folder / file).write_text(json.dumps(changed))
        with pytest.raises(ConfigurationError, match=f"model '{name}' cannot be loaded: "):
            load()
        (folder / file).write_text(whole)
