"""Models converted for OpenVINO."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from ml.errors import ConfigurationError
from ml.generation.arguments import LanguageModelArguments
from ml.generation.engine_choice import choose_engine
from ml.models.convert import convert, main
from ml.models.converted_models import converted_path, mark_converted
from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path
from ml.models.openvino_model import openvino_source
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow

NAME = "owner/model"
REALLY = pytest.mark.skipif(
    "CONVERT_MODEL" not in os.environ,
    reason="CONVERT_MODEL=1 converts the embedded model: 2 to 4 minutes, and 1.6 GB on disk",
)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of a model by its name, converted to 8 bits."""
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    folder = tmp_path / NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    converted = converted_path(NAME, "int8")
    converted.mkdir(parents=True)
    (converted / "openvino_model.xml").touch()
    mark_converted(converted, folder)
    return folder


def test_a_converted_model_is_found_by_its_name_and_run_by_openvino(source: Path) -> None:
    converted = converted_path(NAME, "int8")
    assert openvino_source(NAME) == converted
    assert convert(NAME) == converted  # which does nothing
    assert choose_engine(LanguageModelArguments(model=NAME)).name == "openvino"
    assert openvino_source(NAME, "int4") is None


def test_a_converted_model_whose_source_has_changed_is_not(source: Path) -> None:
    (source / "model.safetensors").write_bytes(b"other weights")
    assert openvino_source(NAME) is None
    chosen = choose_engine(LanguageModelArguments(model=NAME))
    assert (chosen.name, chosen.reason) == (
        "transformers",
        "auto, and openvino does not read the model",
    )


def test_folders_of_one_name_are_converted_apart(tmp_path: Path) -> None:
    one, other = (str(tmp_path / parent / "model") for parent in "ab")
    assert converted_path(one, "int8") != converted_path(other, "int8")


def test_weights_that_are_not_there_are_told_with_the_command_that_makes_them(
    source: Path,
) -> None:
    workflow = LLMInferenceWorkflow(NAME, weights="int4")
    with pytest.raises(ConfigurationError, match=f"ml.models.convert {NAME} --weights int4"):
        asyncio.run(workflow.setup())


def test_what_cannot_be_converted_is_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_config = tmp_path / "empty"
    only_config.mkdir()
    (only_config / "config.json").write_text("{}")
    for name, why in ((str(only_config), "no safetensors"), ("no name", "neither a folder")):
        assert main([name]) == 2
        assert why in capsys.readouterr().err


@REALLY
def test_the_embedded_model_is_converted_and_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = shutil.ignore_patterns("*.gguf")
    shutil.copytree(embedded_llm_path(), tmp_path / EMBEDDED_LLM, ignore=files)
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    assert main([EMBEDDED_LLM, "--weights", "int4"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == converted_path(EMBEDDED_LLM, "int4")
    workflow = LLMInferenceWorkflow(weights="int4", max_new_tokens=8)

    async def ask() -> str:
        await workflow.setup()
        try:
            return str(await workflow.inference("What is the capital of France?"))
        finally:
            await workflow.close()

    assert "Paris" in asyncio.run(ask())
    assert workflow.chosen()["engine"]["name"] == "openvino"
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 120 * 10**6
