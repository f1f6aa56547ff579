"""The classic service with model files of libraries beside torch, asked as clients and nodes do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.errors import ConfigurationError
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.workflows.inference.model_file_inference_workflow import ModelFileInferenceWorkflow
from tests.conftest import MakeApp
from tests.support.model_files import MODELS, ROWS, Saved, two_inputs_onnx
from tests.support.processes import clean_environment


@pytest.fixture(scope="module", params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A model file of each library."""
    return MODELS[request.param](tmp_path_factory.mktemp("model"))


async def service(make_app: MakeApp, saved: Saved) -> Any:
    arguments = {"path": str(saved.path)}
    app = await make_app(ModelFileInferenceWorkflow, workflow_kw_args=arguments)
    return app.test_client()


async def test_requests_at_once_get_the_library_s_answers(make_app: MakeApp, saved: Saved) -> None:
    client = await service(make_app, saved)

    async def ask(row: Any) -> Any:
        data = {"dtype": saved.dtype, "values": [row.tolist()]}
        reply = await client.post("/service_output", json={"source": 1, "data": data})
        assert reply.status_code == 200
        return (await reply.get_json())["values"]

    for _ in range(2):
        answers = await asyncio.gather(*(ask(ROWS[position % 3]) for position in range(12)))
        due = np.array([saved.due[position % 3] for position in range(12)])
        np.testing.assert_allclose(np.concatenate(answers), due, rtol=1e-5, atol=1e-6)


async def test_a_contract_and_a_node_are_answered(make_app: MakeApp, saved: Saved) -> None:
    client = await service(make_app, saved)
    name = saved.path.name
    row = Vector(ROWS[:1], DataType.FLOAT64, Arithmetic.FIXED_POINT, 18)
    data = TensorRequest(row, name).encode().hex()
    reply = await client.post("/service_output", json={"source": 0, "data": data})
    answer = decode_vector(bytes.fromhex((await reply.get_json())["raw_output"]))
    np.testing.assert_allclose(answer.values, saved.due[:1], rtol=1e-5, atol=1e-6)
    resources = await (await client.get("/service-resources")).get_json()
    [entry] = resources["compute_capability"]
    assert entry["models"] == [name]


async def test_a_wrong_input_is_a_400_that_says_expected_and_given(
    make_app: MakeApp, saved: Saved
) -> None:
    client = await service(make_app, saved)
    data = {"dtype": saved.dtype, "values": [[1, 2, 3]]}
    reply = await client.post("/service_output", json={"source": 1, "data": data})
    assert reply.status_code == 400
    description = (await reply.get_json())["description"]
    assert description == "values: expected shape [any, 4]; given shape [1, 3]"


def test_a_library_that_is_not_installed_is_told_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    due = r"model\.txt: lightgbm is not installed: pip install '.*\[lightgbm\]'"
    with pytest.raises(ConfigurationError, match=due):
        ModelFileInferenceWorkflow(path=Path("model.txt"))


async def test_a_library_that_cannot_be_imported_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "libgomp.so.1: cannot open shared object file"
    saved = MODELS["lightgbm"](tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "lightgbm.py").write_text(f"raise OSError({reason!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"lightgbm cannot load it: {reason}"):
        await ModelFileInferenceWorkflow(saved.path).setup()


ASK_A_REPOSITORY = """
import asyncio
from ml.workflows.inference.model_file_inference_workflow import ModelFileInferenceWorkflow

async def ask():
    workflow = ModelFileInferenceWorkflow("owner/name", filename="ir/model.xml")
    await workflow.setup()
    answer = await workflow.inference({"dtype": "float", "values": [[1, 2, 3, 4]]})
    print(answer.array.shape, workflow.supports_model("owner/name"))

asyncio.run(ask())
"""


def test_both_files_of_a_model_come_from_its_repository(tmp_path: Path) -> None:
    folder, commit = tmp_path / "hub" / "models--owner--name", "a" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit / "ir").mkdir(parents=True)
    MODELS["openvino"](folder / "snapshots" / commit / "ir")
    environment = clean_environment(HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    command = [sys.executable, "-c", ASK_A_REPOSITORY]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "(1, 3) True\n", done.stderr


async def test_a_model_of_several_inputs_tells_each_with_an_example_that_is_answered(
    make_app: MakeApp, tmp_path: Path
) -> None:
    arguments = {"path": str(two_inputs_onnx(tmp_path))}
    client = (await make_app(ModelFileInferenceWorkflow, workflow_kw_args=arguments)).test_client()
    form = await (await client.get("/service_output/form")).get_json()
    inputs = form["schema"]["properties"]["inputs"]
    assert inputs["required"] == ["x", "count:0"]
    assert inputs["properties"]["count:0"]["properties"]["dtype"]["enum"] == ["long"]
    assert not form["contracts"]  # which send one tensor
    reply = await client.post("/service_output", json={"source": 1, "data": form["example"]})
    assert list(await reply.get_json()) == ["sum", "is_more", "text"]


async def test_a_model_of_one_input_tells_its_shape_and_an_example_that_is_answered(
    make_app: MakeApp, saved: Saved
) -> None:
    client = await service(make_app, saved)
    form = await (await client.get("/service_output/form")).get_json()
    assert form["schema"]["properties"]["dtype"]["default"] == saved.dtype
    assert form["schema"]["properties"]["values"]["items"]["minItems"] == 4
    reply = await client.post("/service_output", json={"source": 1, "data": form["example"]})
    assert reply.status_code == 200
