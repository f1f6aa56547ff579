"""Answers that come with a proof: off chain, for contracts, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ezkl_patches import Proof, decode_verify_calldata
from ml.caller import set_deadline, set_takes
from ml.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
)
from ml.infernet.json_text import to_json
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.proving.failures import ArtifactFault, ProvingProcessDied
from ml.proving.line import DoesNotFit
from ml.workflows.inference.tensor_input import TensorInput
from ml.workflows.loading import load_workflow
from ml.workflows.proof.ezkl_proof_workflow import CircuitAnswer, EZKLProofWorkflow
from tests.support.circuits import SETOSA, copy_of, iris_artifact
from tests.support.requests import eventually

CLASS = "ml.workflows.proof.ezkl_proof_workflow.EZKLProofWorkflow"
IRIS = {"dtype": "float", "values": [SETOSA]}
HASHED = ("hashed", "fixed", "public")


@pytest.fixture(scope="module")
def workflow() -> Iterator[EZKLProofWorkflow]:
    workflow = EZKLProofWorkflow(iris_artifact(), str(iris_artifact(HASHED)))
    asyncio.run(workflow.setup())
    yield workflow
    asyncio.run(workflow.close())


async def offchain(workflow: EZKLProofWorkflow, data: Any) -> dict[str, Any]:
    """Return the JSON that a web client gets."""

    def encode(input_data: Any, output: Any) -> Any:
        return json.loads(to_json(workflow.encode_offchain(output, input_data)))

    reply: dict[str, Any] = await workflow.run(lambda: workflow.decode_offchain(data), encode)
    return reply


async def onchain(workflow: EZKLProofWorkflow, data: bytes) -> tuple[bytes, bytes]:
    """Return the output and the proof that a contract gets."""

    def encode(input_data: Any, output: Any) -> bytes:
        return workflow.encode_onchain(output, input_data)

    raw, proof = await workflow.run_with_proof(lambda: workflow.decode_onchain(data), encode)
    assert proof is not None
    return raw, proof.calldata


def request(dtype: Any = np.float32, **options: Any) -> bytes:
    array = np.array([SETOSA], dtype)
    return TensorRequest(Vector(array, DataType.from_numpy(array.dtype)), **options).encode()


async def test_an_off_chain_answer_has_the_output_and_all_that_a_verifier_needs(
    workflow: EZKLProofWorkflow,
) -> None:
    reply = await offchain(workflow, IRIS)
    prover = workflow.prover_for("iris")
    assert reply["artifact"] == prover.artifact.manifest.id
    assert reply["outputs"]["shape"] == [1, 3]
    assert np.argmax(reply["outputs"]["values"]) == 0
    assert reply["public_values"]["inputs"] == [
        [pytest.approx(value, abs=1e-4) for value in SETOSA]
    ]
    assert np.allclose(reply["public_values"]["outputs"], reply["outputs"]["values"])
    assert list(reply["seconds"]) == ["witness", "prove", "verify"]
    proof = Proof(
        bytes.fromhex(reply["proof"][2:]),
        tuple(int(word, 16) for word in reply["public_values"]["instances"]),
    )
    assert decode_verify_calldata(bytes.fromhex(reply["calldata"][2:])) == proof
    prover.verify(proof)


async def test_a_request_names_its_artifact(workflow: EZKLProofWorkflow) -> None:
    reply = await offchain(workflow, IRIS | {"model_id": "iris-hashed"})
    assert reply["artifact"].startswith("iris-hashed-")
    assert reply["public_values"]["inputs"] == []
    assert len(reply["public_values"]["input_hashes"]) == 1
    with pytest.raises(NotFound, match="no artifact 'rose'; give one of iris, iris-hashed"):
        await offchain(workflow, IRIS | {"model_id": "rose"})
    assert workflow.supports_model("iris")
    assert not workflow.supports_model("rose")


@pytest.mark.parametrize(
    "data",
    [request(), request(np.float64, model_id="iris"), encode_legacy(SETOSA)],
    ids=["float32", "float64 with a model id", "legacy"],
)
async def test_a_contract_gets_the_output_and_the_calldata_of_its_verifier(
    workflow: EZKLProofWorkflow, data: bytes
) -> None:
    raw, proof = await onchain(workflow, data)
    vector = decode_vector(raw)
    assert (vector.values.shape, int(vector.values.argmax())) == ((1, 3), 0)
    prover = workflow.prover_for("")
    [outputs] = prover.verify(decode_verify_calldata(proof)).outputs
    assert np.allclose(vector.values, [outputs])


async def test_a_contract_gets_the_arithmetic_that_it_asks_for(
    workflow: EZKLProofWorkflow,
) -> None:
    options = {"output_arithmetic": Arithmetic.FIXED_POINT, "output_decimals": 6}
    raw, _ = await onchain(workflow, request(**options))
    vector = decode_vector(raw)
    assert (vector.arithmetic, vector.decimals) == (Arithmetic.FIXED_POINT, 6)


@pytest.mark.parametrize("data", [request(), None], ids=["contract", "signed"])
async def test_an_answer_without_a_place_for_a_proof_is_the_outputs_and_costs_none(
    workflow: EZKLProofWorkflow, data: bytes | None
) -> None:
    async def unproved() -> Any:
        set_takes(jobs=False, proof=False)
        given = IRIS if data is None else workflow.decode_onchain(data)
        return await workflow.inference(given)

    answer = await asyncio.create_task(unproved())
    assert isinstance(answer, CircuitAnswer)
    assert answer.proved is None
    outputs = workflow.encode_offchain(answer, None)
    assert outputs.keys() == {"dtype", "shape", "values"}
    assert TensorInput.model_validate(outputs).values.shape == (1, 3)


async def test_an_answer_and_its_proof_take_one_run_of_the_worker(
    workflow: EZKLProofWorkflow,
) -> None:
    for answer in (lambda: onchain(workflow, request()), lambda: offchain(workflow, IRIS)):
        before = workflow._worker.runs
        await answer()
        assert workflow._worker.runs == before + 1


async def test_an_answer_with_its_proof_is_an_input_of_the_next_container(
    workflow: EZKLProofWorkflow,
) -> None:
    reply = await offchain(workflow, IRIS)
    values = TensorInput.model_validate(reply).values
    assert np.allclose(values, reply["outputs"]["values"])


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (IRIS | {"model": "iris"}, "no such field: .model.; did you mean .model_id."),
        (IRIS | {"values": [[1.0, 2.0]]}, r"takes shape \[1, 4\]"),
        (IRIS | {"values": [[1.0, 2.0, 3.0, float("nan")]]}, "finite"),
        (IRIS | {"values": [[1e9, 0.0, 0.0, 0.0]]}, "within ±524288"),
        ({"dtype": "bool", "values": [[True] * 4]}, "takes real numbers; given bool"),
        (IRIS | {"values": [[True] * 4]}, "expected numbers"),
        ({"values": [SETOSA]}, "data.dtype"),
        ("text", "expected an object"),
    ],
)
async def test_bad_input_is_refused_with_what_is_due(
    workflow: EZKLProofWorkflow, data: Any, match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        await offchain(workflow, data)


async def test_bad_input_of_a_contract_is_refused(workflow: EZKLProofWorkflow) -> None:
    with pytest.raises(InvalidInput):
        await onchain(workflow, b"\0" * 64)
    with pytest.raises(NotFound):
        await onchain(workflow, request(model_id="rose"))
    with pytest.raises(InvalidInput, match="finite"):
        await onchain(workflow, request().replace(np.float32(5.1).tobytes()[::-1], b"\x7f\xc0\0\0"))


async def test_the_deadline_of_a_request_ends_its_proof(workflow: EZKLProofWorkflow) -> None:
    async def hurried() -> None:
        set_deadline(workflow.prover_for("").expected_seconds + 0.2)
        await offchain(workflow, IRIS)

    running = asyncio.create_task(hurried())
    await eventually(lambda: any(workflow._worker._path().glob("task-*")))
    os.kill(workflow._worker.pid or 0, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded, match="did not finish in time"):
        await running
    assert await offchain(workflow, IRIS)


async def test_a_proof_that_is_expected_to_end_after_its_deadline_is_not_begun(
    workflow: EZKLProofWorkflow,
) -> None:
    async def hurried(proves: Callable[[], Awaitable[Any]]) -> None:
        set_deadline(workflow.prover_for("").expected_seconds / 2)
        await proves()

    for proves in (lambda: offchain(workflow, IRIS), lambda: onchain(workflow, request())):
        with pytest.raises(DoesNotFit, match=r"expected to end in [\d.]+ s; this request has"):
            await asyncio.create_task(hurried(proves))


async def test_a_killed_process_fails_one_request_alone(workflow: EZKLProofWorkflow) -> None:
    await offchain(workflow, IRIS)
    running = asyncio.create_task(offchain(workflow, IRIS))
    await eventually(lambda: any(workflow._worker._path().glob("task-*")))
    os.kill(workflow._worker.pid or 0, signal.SIGKILL)
    with pytest.raises(ProvingProcessDied, match="SIGKILL"):
        await running
    assert await offchain(workflow, IRIS)


async def test_a_corrupted_key_fails_its_artifact_alone(tmp_path: Path) -> None:
    damaged = copy_of(iris_artifact(), tmp_path)
    workflow = EZKLProofWorkflow(damaged, iris_artifact(HASHED))
    await workflow.setup()
    key = damaged / "pk.key"
    key.write_bytes(key.read_bytes()[:-8] + bytes(8))
    with pytest.raises(ArtifactFault, match=r"pk\.key of the artifact iris-.* was altered"):
        await offchain(workflow, IRIS)
    assert await offchain(workflow, IRIS | {"model_id": "iris-hashed"})
    await workflow.close()


async def test_a_damaged_artifact_is_found_at_the_start(tmp_path: Path) -> None:
    damaged = copy_of(iris_artifact(), tmp_path)
    (damaged / "vk.key").unlink()
    workflow = EZKLProofWorkflow(damaged)
    with pytest.raises(ConfigurationError, match=r"vk\.key: No such file"):
        await workflow.setup()
    assert not workflow.is_setup
    await workflow.close()


async def test_a_closed_workflow_leaves_no_process_and_can_start_again() -> None:
    workflow = EZKLProofWorkflow(iris_artifact())
    for _ in range(2):
        await workflow.setup()
        pid = workflow._worker.pid
        assert pid
        await workflow.close()
        assert workflow._worker.pid is None


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        ([], {}, "artifacts: give the paths"),
        ([3], {}, r"artifacts\.0: give a text"),
        (["a"], {"proof_seconds": 0}, "proof_seconds"),
        (["a"], {"proof_seconds": "long"}, "proof_seconds"),
        (["a"], {"memory_limit_bytes": -1}, "memory_limit_bytes"),
        (["a"], {"memory": 1}, "no such argument: 'memory'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(
    args: list[Any], kwargs: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigurationError, match=match):
        load_workflow(CLASS, args, kwargs)


async def test_two_artifacts_of_one_name_are_refused(tmp_path: Path) -> None:
    workflow = load_workflow(CLASS, [str(iris_artifact()), str(copy_of(iris_artifact(), tmp_path))])
    with pytest.raises(ConfigurationError, match="two have one name: iris, iris"):
        await workflow.setup()


async def test_a_memory_limit_below_a_proofs_need_is_refused_at_the_start() -> None:
    workflow = EZKLProofWorkflow(iris_artifact(), memory_limit_bytes=1_000_000)
    with pytest.raises(ConfigurationError, match="over the limit of 1000000"):
        await workflow.setup()
