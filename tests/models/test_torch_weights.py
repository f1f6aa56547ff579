"""Weights without a model: their class is named, and what wrappers did to their names is undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ml.errors import ConfigurationError
from ml.models.torch_file import TorchFile
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow

CPU = torch.device("cpu")
LINEAR = {
    "model_class": "torch.nn.Linear",
    "model_class_args": {"in_features": 4, "out_features": 2},
}


def weights(prefix: str = "") -> dict[str, Any]:
    torch.manual_seed(0)
    tensors = nn.Linear(4, 2, dtype=torch.float64).state_dict()
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "saved",
    [
        weights(),
        weights("module."),
        weights("_orig_mod."),
        weights("_orig_mod.module."),
        {"state_dict": weights("module."), "epoch": 3},
        {"model_state_dict": weights(), "optimizer": {}},
        {"model": weights("_orig_mod."), "step": torch.tensor(3)},
    ],
    ids=["plain", "module", "orig_mod", "both", "state_dict", "model_state_dict", "model"],
)
async def test_weights_are_put_into_the_class_that_is_named(saved: Any, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "weights.pt")
    workflow = TorchInferenceWorkflow(tmp_path / "weights.pt", **LINEAR)
    await workflow.setup()
    answer = await workflow.inference({"dtype": "double", "values": [[1, 2, 3, 4]]})
    due = nn.functional.linear(torch.tensor([[1.0, 2, 3, 4]]).double(), *weights().values())
    assert answer.array.tolist() == due.tolist()


def test_safetensors_are_put_into_the_class_that_is_named(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "m.safetensors")
    model = TorchFile(**LINEAR).load(tmp_path / "m.safetensors", CPU)
    assert not model.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights().items())


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda path: torch.save(weights(), path), "this is a state dict: weights without"),
        (
            lambda path: torch.save({"state_dict": weights()}, path),
            "this is a checkpoint, with a state dict under 'state_dict': weights without",
        ),
    ],
)
def test_weights_without_a_class_are_told_what_they_need(
    save: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    save(tmp_path / "weights.pt")
    with pytest.raises(ConfigurationError, match=rf"weights\.pt: {message}.*model_class"):
        TorchFile().load(tmp_path / "weights.pt", CPU)
    save_file(weights(), tmp_path / "m.safetensors")
    with pytest.raises(ConfigurationError, match=r"m\.safetensors: weights without.*model_class"):
        TorchFile().load(tmp_path / "m.safetensors", CPU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model_class_args": {"in_features": 4, "out_features": 3}},
            r"shape: weight \[2, 4\], not \[3, 4\], bias",
        ),
        (
            {
                "model_class": "torch.nn.Bilinear",
                "model_class_args": {
                    "in1_features": 1,
                    "in2_features": 1,
                    "out_features": 1,
                    "bias": False,
                },
            },
            "does not fit Bilinear; not in the model: bias; of another shape: weight",
        ),
        ({"model_class_args": {"widht": 4}}, "torch.nn.Linear cannot be made .*widht"),
        ({"model_class": "torch.nn.Linaer"}, "model_class: 'torch.nn.Linaer' not found"),
        ({"model_class": "builtins.dict"}, "builtins.dict is no torch.nn.Module"),
    ],
)
def test_a_class_that_weights_do_not_fit_is_told_why(
    arguments: Any, message: str, tmp_path: Path
) -> None:
    torch.save(weights(), tmp_path / "weights.pt")
    with pytest.raises(ConfigurationError, match=message):
        TorchFile(**{**LINEAR, **arguments}).load(tmp_path / "weights.pt", CPU)


def test_what_holds_no_weights_and_what_is_damaged_is_told(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigurationError, match=r"list\.pt: .* holds no weights.* type list"):
        TorchFile(**LINEAR).load(tmp_path / "list.pt", CPU)
    (tmp_path / "m.safetensors").write_bytes(b"damaged" * 99)
    with pytest.raises(ConfigurationError, match="cannot be loaded as safetensors"):
        TorchFile(**LINEAR).load(tmp_path / "m.safetensors", CPU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_class_args": {"a": 1}}, "model_class_args: needs model_class"),
        ({**LINEAR, "use_jit": True}, "use_jit: TorchScript needs no model_class"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TorchInferenceWorkflow("weights.pt", **arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (b"<!doctype html><title>model</title>", "a web page, not a model"),
        (b"", "the file is empty"),
    ],
)
async def test_a_pointer_or_a_page_in_place_of_a_torch_file_is_named(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "model.torch").write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"model\.torch: .*{message}"):
        await TorchInferenceWorkflow(tmp_path / "model.torch").setup()
