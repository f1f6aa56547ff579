"""A language model is ready when it can answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file, save_file

from ml.errors import ConfigurationError
from ml.generation.arguments import LanguageModelArguments
from ml.generation.language_model import LanguageModel
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.openvino_model import load_openvino_model
from tests.support.openvino_folder import save_openvino_folder
from tests.support.tiny_llm import save_tiny_llm


def _transformers(folder: Path) -> Path:
    [file] = save_tiny_llm(folder).glob("*.safetensors")
    weights = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    return folder


def _openvino(folder: Path) -> Path:
    install()
    save_openvino_folder(load_openvino_model(EMBEDDED_LLM), folder)
    layers = ElementTree.parse(folder / "openvino_model.xml").iterfind(  # noqa: S314
        ".//data[@element_type='f16']"
    )
    with (folder / "openvino_model.bin").open("r+b") as weights:
        for layer in layers:
            if (size := int(layer.attrib.get("size", 0))) > 64:
                weights.seek(int(layer.attrib["offset"]))
                weights.write(b"\x7e" * size)  # 0x7e7e is no number
    return folder


@pytest.mark.parametrize("save", [_transformers, _openvino])
def test_a_model_whose_weights_are_damaged_is_refused_at_the_start(
    save: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = save(tmp_path / "damaged")
    model = LanguageModel(LanguageModelArguments(model=str(folder), slots=1, max_length=64))
    with pytest.raises(ConfigurationError, match="damaged was loaded and cannot answer"):
        model.load()
