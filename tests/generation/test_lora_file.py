"""What an adapter must be to be served: its name, its configuration and its weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.errors import ConfigurationError, InvalidInput, NotFound
from ml.generation.adapters import Adapters
from ml.generation.lora_config import LoraConfig
from tests.support.adapters import change_config, change_weights, loaded, save_adapter


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../adapters/attention", "attention/", ".hidden", "a" * 101, "no-such", "ä"],
)
def test_an_unknown_name_is_not_found(adapters: Adapters, root: Path, name: str) -> None:
    shutil.copytree(root / "attention", root / ".hidden")
    for use in (adapters.acquire, adapters.unload):
        with pytest.raises(NotFound, match="there is no adapter"):
            use(name)


def test_links_lead_to_other_adapters_and_nowhere_else(
    adapters: Adapters, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "attention", tmp_path / "outside")
    (root / "alias").symlink_to("attention")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to("loop")
    (root / "itself").symlink_to(".")
    adapters.acquire("alias").close()
    for name in ("out", "loop", "itself"):
        with pytest.raises(NotFound):
            adapters.acquire(name)
    weights = root / "attention" / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "outside" / "adapter_model.safetensors")
    with pytest.raises(InvalidInput, match=r"holds no adapter_model\.safetensors"):
        adapters.acquire("attention")


def test_a_folder_that_is_not_there_is_a_fault_of_the_configuration(
    model: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="no such folder"):
        Adapters(model, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "only LORA can be served"),
        ({"peft_type": None}, "adapter_config.json: peft_type"),
        ({"r": 17}, "its rank is 17; at most 16 is served"),
        ({"r": 0}, "adapter_config.json: r: "),
        ({"r": 5}, "has rank 16, but adapter_config.json says 5"),
        ({"rank_pattern": {"q_proj": 64}}, "its rank is 64"),
        ({"rank_pattern": {"(q|k)_proj": 16}}, "not the name, or the end of the name"),
        ({"alpha_pattern": {".*": 16}}, "not the name, or the end of the name"),
        ({"lora_alpha": "much"}, "adapter_config.json: lora_alpha"),
        ({"lora_alpha": 1e300}, "not all finite"),
        ({"bias": "lora_only"}, "biases"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the model's own weights"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    adapters: Adapters, root: Path, fields: dict[str, Any], reason: str
) -> None:
    change_config(root / "attention", **fields)
    with pytest.raises(InvalidInput, match=r"^adapter 'attention': ") as raised:
        adapters.acquire("attention")
    assert reason in raised.value.description
    assert str(root) not in raised.value.description
    assert loaded(adapters) == set()


_Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def _other_name(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_Q.format("A").replace("q_proj", "query")] = tensors.pop(_Q.format("A"))


def _magnitude(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_Q.format("magnitude_vector")] = torch.ones(64)


def _one_half(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[_Q.format("B")]


def _infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_Q.format("A")][0, 0] = float("inf")


def _flat(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_Q.format("A")] = tensors[_Q.format("A")].flatten()


def _integers(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_Q.format("A")] = tensors[_Q.format("A")].int()


def _large(tensors: dict[str, torch.Tensor]) -> None:
    tensors["more"] = torch.zeros(10**6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_other_name, "another model: this one has no linear layer model.layers.0.self_attn.query"),
        (_magnitude, "is not the A or B of a linear layer"),
        (_one_half, "lora_B of model.layers.0.self_attn.q_proj is missing"),
        (_infinite, "not all finite"),
        (_flat, "has shape [1024], the model's is [16, 64]"),
        (_integers, "no floating-point numbers"),
        (_large, "are the most"),
        (dict.clear, "is empty"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_reason(
    adapters: Adapters, root: Path, change: Callable[[dict[str, torch.Tensor]], Any], reason: str
) -> None:
    change_weights(root / "attention", change)
    with pytest.raises(InvalidInput) as raised:
        adapters.acquire("attention")
    assert reason in raised.value.description


def test_a_pattern_is_a_name_or_the_end_of_one_after_a_dot() -> None:
    config = LoraConfig(
        peft_type="LORA", r=8, lora_alpha=16, alpha_pattern={"proj": 1, "b.q_proj": 8, "k_proj": 24}
    )
    assert [config.scaling_of(f"{name}_proj") for name in ("a.q", "a.b.q", "b.q", "a.k")] == [
        2,
        1,
        1,
        3,
    ]


def test_an_adapter_of_another_model_is_refused_with_both_shapes(
    adapters: Adapters, root: Path
) -> None:
    save_adapter(root / "foreign", hidden_size=32)
    with pytest.raises(InvalidInput) as raised:
        adapters.acquire("foreign")
    assert raised.value.description == (
        "adapter 'foreign': it was trained for another model: lora_A of "
        "model.layers.0.self_attn.k_proj has shape [4, 32], the model's is [4, 64]"
    )


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_or_damaged_file_is_refused_by_its_name(
    adapters: Adapters, root: Path, file: str
) -> None:
    (root / "attention" / "adapter_model.bin").write_bytes(b"a pickle, which nobody reads")
    (root / "attention" / file).write_bytes(b'{"half of')
    with pytest.raises(InvalidInput, match=file):
        adapters.acquire("attention")
    (root / "attention" / file).unlink()
    with pytest.raises(InvalidInput, match=f"holds no {file}"):
        adapters.acquire("attention")
    os.mkfifo(root / "attention" / file)  # reading it would wait for ever
    with pytest.raises(InvalidInput, match=f"holds no {file}"):
        adapters.acquire("attention")
