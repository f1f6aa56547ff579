"""Answers of torch models with the proof of a circuit that was made of them."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ezkl_patches import Proof, decode_verify_calldata
from ml.caller import set_deadline
from ml.errors import ConfigurationError, DeadlineExceeded, InvalidInput, UnprocessableOutput
from ml.infernet.json_text import to_json
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.proving.artifact import Artifact
from ml.proving.building import build
from ml.proving.failures import ProvingProcessDied
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from ml.workflows.inference.tensor_input import TensorInput
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from ml.workflows.loading import load_workflow
from tests.support.circuits import (
    SETOSA,
    built_in_iris_artifact,
    export,
    iris_artifact,
    iris_layers,
    iris_request,
)
from tests.support.processes import ROOT, clean_environment
from tests.support.requests import eventually

CLASS = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"
IRIS = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
CLASSIFIER = {"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}
FLOWER = {"dtype": "float", "values": [SETOSA]}
ORIGIN = {"dtype": "float", "values": [[0.0, 0.0, 0.0, 0.0]]}

USER_MODULE = """
import torch
from torch import nn

class Pair(nn.Module):
    def forward(self, x):
        narrow = x.to(torch.float32)
        return 2 * narrow, narrow - 1
"""


@pytest.fixture(scope="module")
def workflow() -> Iterator[TorchInferenceWorkflow]:
    workflow = TorchInferenceWorkflow(**IRIS, proof_artifact=built_in_iris_artifact())
    asyncio.run(workflow.setup())
    yield workflow
    asyncio.run(workflow.close())


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    with Worker() as worker:
        yield Prover(Artifact(built_in_iris_artifact()), worker)


async def offchain(workflow: TorchInferenceWorkflow, data: Any) -> dict[str, Any]:
    """Return the JSON that a web client gets who asks for a proof."""

    def encode(input_data: Any, output: Any) -> Any:
        return workflow.encode_offchain(output, input_data)

    answer, proof = await workflow.run_with_proof(lambda: workflow.decode_offchain(data), encode)
    assert proof is not None
    reply: dict[str, Any] = json.loads(to_json(proof.answer_with(answer)))
    return reply


async def onchain(workflow: TorchInferenceWorkflow, data: bytes) -> tuple[Vector, Proof]:
    """Return the output and the proof that a contract gets."""

    def encode(input_data: Any, output: Any) -> bytes:
        return workflow.encode_onchain(output, input_data)

    raw, proof = await workflow.run_with_proof(lambda: workflow.decode_onchain(data), encode)
    assert proof is not None
    return decode_vector(raw), decode_verify_calldata(proof.calldata)


def request(values: Any, dtype: Any = np.float32, **options: Any) -> bytes:
    array = np.array(values, dtype)
    return TensorRequest(Vector(array, DataType.from_numpy(array.dtype)), **options).encode()


async def test_the_usual_answer_comes_with_a_proof_that_holds_and_the_true_difference(
    workflow: TorchInferenceWorkflow, prover: Prover
) -> None:
    reply = await offchain(workflow, FLOWER)
    plain = json.loads(to_json((await workflow.inference(FLOWER)).to_json()))
    proof = reply.pop("proof")
    assert reply == plain
    assert set(proof) == {
        *("artifact", "outputs", "proof", "calldata", "public_values", "seconds"),
        "largest_difference",
    }
    proven = decode_verify_calldata(bytes.fromhex(proof["calldata"][2:]))
    assert proven.proof == bytes.fromhex(proof["proof"][2:])
    values = prover.verify(proven)
    assert proof["artifact"] == prover.artifact.manifest.id
    assert np.allclose(values.inputs, [SETOSA], atol=1e-3)
    assert np.allclose(values.outputs, proof["outputs"]["values"])
    differences = np.abs(np.array(proof["outputs"]["values"]) - plain["values"])
    assert proof["largest_difference"] == pytest.approx(differences.max(), rel=1e-3)
    assert 0 < proof["largest_difference"] < 0.001


async def test_an_answer_with_its_proof_is_an_input_of_the_next_container(
    workflow: TorchInferenceWorkflow,
) -> None:
    reply = await offchain(workflow, FLOWER)
    assert TensorInput.model_validate(reply).values.shape == (1, 3)


@pytest.mark.parametrize(
    "data",
    [
        request([SETOSA]),
        encode_legacy(SETOSA),
        request([SETOSA], output_arithmetic=Arithmetic.FIXED_POINT, output_decimals=9),
    ],
    ids=["float32", "decimals", "decimals asked for"],
)
async def test_a_contract_gets_the_models_answer_and_the_proof_of_the_circuits(
    workflow: TorchInferenceWorkflow, prover: Prover, data: bytes
) -> None:
    output, proof = await onchain(workflow, data)
    answer = (await workflow.inference(FLOWER)).array
    assert np.allclose(output.values, answer, atol=1e-7)
    assert np.allclose(prover.verify(proof).outputs, answer, atol=0.001)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (FLOWER | {"values": [SETOSA, SETOSA]}, r"takes shape \[1, 4\]; given \[2, 4\]"),
        (FLOWER | {"values": SETOSA}, r"takes shape \[1, 4\]; given \[4\]"),
        (FLOWER | {"values": [[1e6, 0.0, 0.0, 0.0]]}, "takes numbers within"),
        (FLOWER | {"dtype": "double"}, "dtype: expected 'float'"),
    ],
)
async def test_what_the_circuit_does_not_take_is_refused_with_what_is_due(
    workflow: TorchInferenceWorkflow, data: Any, match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        await offchain(workflow, data)


async def test_a_contracts_several_rows_are_refused(workflow: TorchInferenceWorkflow) -> None:
    with pytest.raises(InvalidInput, match=r"takes shape \[1, 4\]"):
        await onchain(workflow, request([SETOSA, SETOSA]))


async def test_an_answer_beyond_the_tolerance_is_not_delivered() -> None:
    """The circuit takes what is below exp(-8) for zero, which shows in certain answers."""
    workflow = TorchInferenceWorkflow(
        **IRIS, proof_artifact=built_in_iris_artifact(), proof_tolerance=0.0005
    )
    await workflow.setup()
    match = r"differs from the model's by 0\.0006\d*, over the proof_tolerance of 0\.0005"
    with pytest.raises(UnprocessableOutput, match=match):
        await offchain(workflow, ORIGIN)
    with pytest.raises(UnprocessableOutput, match=match):
        await onchain(workflow, request(ORIGIN["values"]))
    assert (await offchain(workflow, FLOWER))["proof"]["largest_difference"] <= 0.0005
    await workflow.close()


# --- several outputs, and an input of double precision ----------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Arguments for a model of two outputs, and the folder of its artifact."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "made_up_pair.py").write_text(USER_MODULE)
    sys.path.insert(0, str(folder))
    model = importlib.import_module("made_up_pair").Pair()
    torch.save(model, folder / "pair.torch")
    onnx = export(model, folder / "pair.onnx", torch.zeros(1, 2, dtype=torch.float64))
    calibration = folder / "calibration.json"
    calibration.write_text(json.dumps({"input_data": [[1.5, -2.25, 3.0, 0.5]]}))
    wish = iris_request(folder / "pair", name="pair", model=onnx, calibration=calibration)
    build(wish, lambda *_: None)
    yield {
        "path": folder / "pair.torch",
        "safe_classes": ["made_up_pair.Pair"],
        "proof_artifact": folder / "pair",
    }
    sys.path.remove(str(folder))


async def test_several_outputs_are_compared_and_come_beside_their_proof(
    pair: dict[str, Any],
) -> None:
    workflow = TorchInferenceWorkflow(**pair, proof_tolerance=0.01)
    await workflow.setup()
    reply = await offchain(workflow, {"dtype": "double", "values": [[1.0, 2.0]]})
    assert [output["values"] for output in reply["outputs"]] == [[[2.0, 4.0]], [[0.0, 1.0]]]
    assert len(reply["proof"]["outputs"]) == 2
    assert reply["proof"]["largest_difference"] <= 0.01
    with pytest.raises(InvalidInput, match="dtype: the circuit takes 'double'; given 'float'"):
        await offchain(workflow, {"dtype": "float", "values": [[1.0, 2.0]]})
    await workflow.close()


# --- starting and ending ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "artifact", "match"),
    [
        (IRIS, iris_artifact, r"iris-\w+ does not fit this model: .* differs .* by 3\.99"),
        (CLASSIFIER, built_in_iris_artifact, r"expected a last dimension of 69; given .*\[1, 4\]"),
    ],
    ids=["another output", "another input"],
)
async def test_an_artifact_of_another_model_is_refused_with_how_far_it_is_off(
    model: dict[str, Any], artifact: Any, match: str
) -> None:
    workflow = TorchInferenceWorkflow(**model, proof_artifact=artifact())
    with pytest.raises(ConfigurationError, match=match):
        await workflow.setup()
    assert not workflow.is_setup


async def test_a_model_of_another_precision_or_shape_is_refused(tmp_path: Path) -> None:
    for model, match in (
        (iris_layers().double(), "dtype: expected 'double'; given 'float'"),
        (iris_layers()[:1], r"answers shapes \[1, 3\], the model \[1, 16\]"),
    ):
        torch.save(model, tmp_path / "model.torch")
        workflow = TorchInferenceWorkflow(
            path=tmp_path / "model.torch", proof_artifact=iris_artifact()
        )
        with pytest.raises(ConfigurationError, match=match):
            await workflow.setup()


async def test_a_circuit_coarser_than_the_tolerance_is_refused_at_the_start() -> None:
    workflow = TorchInferenceWorkflow(
        **IRIS, proof_artifact=built_in_iris_artifact(), proof_tolerance=1e-9
    )
    with pytest.raises(ConfigurationError, match="over the proof_tolerance of 1e-09"):
        await workflow.setup()


@pytest.mark.parametrize(
    ("kwargs", "faults"),
    [
        (
            {"proof_artifact": 3, "proof_seconds": 0, "proof_tolerance": -1},
            ["proof_artifact: ", "proof_seconds: ", "proof_tolerance: "],
        ),
        ({"proof_memory_limit_bytes": True}, ["proof_memory_limit_bytes: Input should be"]),
        ({"proof_tolerance": 0.1}, ["proof_tolerance: needs proof_artifact"]),
        ({"proof_artifact": " "}, ["proof_artifact: give a text"]),
        ({"proof_artefact": "a"}, ["did you mean 'proof_artifact'"]),
    ],
)
def test_arguments_that_cannot_work_are_refused_together(
    kwargs: dict[str, Any], faults: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_workflow(CLASS, [], IRIS | kwargs)
    assert all(fault in str(caught.value) for fault in faults)


async def test_a_limit_of_memory_below_a_proofs_need_is_refused_at_the_start() -> None:
    workflow = TorchInferenceWorkflow(
        **IRIS, proof_artifact=built_in_iris_artifact(), proof_memory_limit_bytes=1_000_000
    )
    with pytest.raises(ConfigurationError, match="over the limit of 1000000"):
        await workflow.setup()


async def test_a_folder_without_an_artifact_is_refused_at_the_start(tmp_path: Path) -> None:
    workflow = TorchInferenceWorkflow(**IRIS, proof_artifact=tmp_path)
    with pytest.raises(ConfigurationError, match=r"no proving artifact: manifest\.json"):
        await workflow.setup()


def test_without_ezkl_the_extra_that_brings_it_is_named(tmp_path: Path) -> None:
    """In an environment with all packages of this one but ezkl."""
    site = Path(torch.__file__).parents[1]
    for entry in site.iterdir():
        if not entry.name.startswith("ezkl"):
            (tmp_path / entry.name).symlink_to(entry)
    code = f"""
import asyncio
from {TorchInferenceWorkflow.__module__} import TorchInferenceWorkflow
workflow = TorchInferenceWorkflow(**{IRIS}, proof_artifact={str(built_in_iris_artifact())!r})
asyncio.run(workflow.setup())
"""
    paths = (tmp_path, ROOT, ROOT / "src")
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=clean_environment() | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "ConfigurationError: install the extra 'ezkl', which brings ezkl" in done.stderr


def test_only_a_workflow_with_an_artifact_or_a_proof_of_its_own_can_prove() -> None:
    class Own(TorchInferenceWorkflow):
        def do_generate_proof(self, input_data: Any, output: Any) -> bytes:
            return b"own"

    assert not TorchInferenceWorkflow(**IRIS).can_prove
    assert TorchInferenceWorkflow(**IRIS, proof_artifact="anywhere").can_prove
    assert Own(**IRIS).can_prove


async def test_a_subclass_with_a_proof_of_its_own_answers_with_it() -> None:
    class Own(TorchInferenceWorkflow):
        def do_generate_proof(self, input_data: Any, output: Any) -> bytes:
            return bytes(output.array.shape)

    workflow = Own(**IRIS)
    await workflow.setup()
    reply = await offchain(workflow, FLOWER)
    assert reply["proof"] == "0x0103"
    assert reply["output"]["shape"] == [1, 3]


async def test_a_killed_process_fails_one_request_alone(workflow: TorchInferenceWorkflow) -> None:
    running = asyncio.create_task(offchain(workflow, FLOWER))
    worker = workflow._proofs._worker  # type: ignore[union-attr]
    await eventually(lambda: worker._folder and any(worker._path().glob("task-*")))
    os.kill(worker.pid or 0, signal.SIGKILL)
    with pytest.raises(ProvingProcessDied, match="SIGKILL"):
        await running
    assert (await offchain(workflow, FLOWER))["proof"]


async def test_a_proof_that_cannot_end_in_time_is_not_begun(
    workflow: TorchInferenceWorkflow,
) -> None:
    async def hurried() -> None:
        set_deadline(0.05)
        await offchain(workflow, FLOWER)

    with pytest.raises(DeadlineExceeded, match="expected to end in"):
        await asyncio.create_task(hurried())


async def test_a_closed_workflow_leaves_no_process_and_can_start_again() -> None:
    workflow = TorchInferenceWorkflow(**IRIS, proof_artifact=built_in_iris_artifact())
    for _ in range(2):
        await workflow.setup()
        worker = workflow._proofs._worker  # type: ignore[union-attr]
        assert worker.pid
        await workflow.close()
        assert worker.pid is None


async def test_an_input_is_preprocessed_once_for_its_answer_and_the_proof() -> None:
    class Doubling(TorchInferenceWorkflow):
        calls = 0

        async def do_preprocessing(self, input_data: Any) -> Any:
            self.calls += 1
            return 2 * super().do_preprocessing(input_data)

    workflow = Doubling(**IRIS, proof_artifact=built_in_iris_artifact())
    await workflow.setup()
    half = {"dtype": "float", "values": [[value / 2 for value in SETOSA]]}
    reply = await offchain(workflow, half)
    assert workflow.calls == 1
    assert np.allclose(reply["proof"]["public_values"]["inputs"], [SETOSA], atol=1e-3)
    await workflow.close()


async def test_a_subclass_may_look_at_the_proof_of_the_circuit() -> None:
    class Noting(TorchInferenceWorkflow):
        sizes: ClassVar[list[int]] = []

        def do_generate_proof(self, input_data: Any, output: Any) -> Any:
            made = super().do_generate_proof(input_data, output)
            self.sizes.append(len(made.calldata))
            return made

    workflow = Noting(**IRIS, proof_artifact=built_in_iris_artifact())
    await workflow.setup()
    reply = await offchain(workflow, FLOWER)
    assert workflow.sizes == [len(bytes.fromhex(reply["proof"]["calldata"][2:]))]
    await workflow.close()
