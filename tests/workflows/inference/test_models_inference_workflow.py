"""A workflow of several models, in scripts; a service with one is in tests/services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError, NotFound, NotReady
from ml.workflows.inference.models_inference_workflow import ModelsInferenceWorkflow
from tests.support.several_models import listed

ROW = {"dtype": "double", "values": [[1.0]]}


async def test_a_script_asks_the_model_that_it_names() -> None:
    workflow = ModelsInferenceWorkflow(models=listed(2), default_model="m1", max_loaded_models=1)
    await workflow.setup()
    assert (await workflow.inference(ROW)).array.tolist() == [[2.0]]
    assert (await workflow.inference({"model_id": "m2", **ROW})).array.tolist() == [[3.0]]
    with pytest.raises(NotFound):
        await workflow.inference({"model_id": "m3", **ROW})
    await workflow.close()
    await workflow.setup()
    assert (await workflow.inference(ROW)).array.tolist() == [[2.0]]
    await workflow.close()


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["give models, models_folder or both"]),
    ({"models": {}}, ["give models, models_folder or both"]),
    ({"models": {"a": 7, "b": ""}}, ["models.a: give a path", "models.b: give a path"]),
    ({"model": {}}, ["no such argument: 'model'; did you mean 'models'?"]),
    ({"models": {"a": {"paht": "x"}}}, ["models.a: ", "'paht'; did you mean 'path'?"]),
    ({"models": {"a": "a.pkl", "b": {"path": "b.onnx", "outputs": 1}}}, ["models.b: "]),
    ({"models": {"": "a.onnx", "\n": "b.onnx"}}, ["names of 1 to 200 characters"]),
    (
        {"models": {"a": {"workflow_class": "tests.support.workflows.Shout"}}},
        ["models.a: workflow_class: ", "is not a BaseClassicMLInferenceWorkflow"],
    ),
    ({"models": {"a": {"workflow_class": "no.Such"}}}, ["models.a: no module named 'no'"]),
    ({"models_folder": "/nowhere/at/all"}, ["models_folder: /nowhere/at/all: there is no such"]),
    ({"models": {"a": "a.onnx"}, "default_model": "b"}, ["default_model: there is none"]),
    (
        {"models": {"a": "a.onnx"}, "max_memory_bytes": "1", "max_loaded_models": 0},
        ["max_memory_bytes: ", "max_loaded_models: "],
    ),
]


@pytest.mark.parametrize(("arguments", "due"), WRONG)
def test_wrong_arguments_are_told_at_the_start(arguments: dict[str, Any], due: list[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ModelsInferenceWorkflow(**arguments)
    assert [part for part in due if part not in str(raised.value)] == []


def test_nothing_is_read_of_a_model_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"")
    models = {"gone": "gone.onnx", "hub": "owner/name"}
    ModelsInferenceWorkflow(models=models, models_folder=str(tmp_path), default_model="broken")


LOST = {
    "torch": ("{folder}/none.torch", "none.torch: there is no such model file"),
    "onnx": ("{folder}/none.onnx", "none.onnx: there is no such model file"),
    "openvino": ("{folder}/lone.xml", "lone.bin: there is no such model file"),
    "damaged": ("{folder}/damaged.onnx", "Load model from damaged.onnx failed"),
    "hub": ("owner/name", "owner/name:model.torch: the hub cannot be reached"),
}


@pytest.mark.parametrize("case", LOST)
async def test_who_asks_for_a_model_is_not_told_where_its_file_lies(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("lone.xml", "damaged.onnx"):
        (tmp_path / name).write_bytes(b"{}")
    path, why = LOST[case]
    workflow = ModelsInferenceWorkflow(models={"m": path.format(folder=tmp_path)})
    await workflow.setup()
    with pytest.raises(NotReady) as raised:
        await workflow.inference({"model_id": "m", **ROW})
    await workflow.close()
    assert why in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
