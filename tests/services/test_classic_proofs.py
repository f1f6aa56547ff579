"""The classic service with an artifact of its model: its README's commands, and its failures."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ezkl_patches import decode_verify_calldata
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import DataType, Vector, decode_vector
from ml.proving.artifact import Artifact
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from tests.conftest import MakeApp, StartServer
from tests.services.conftest import curls_of_readme
from tests.support.circuits import SETOSA, built_in_iris_artifact, iris_artifact
from tests.support.processes import (
    ROOT,
    Server,
    children_of,
    clean_environment,
    free_port,
    in_background,
    is_running,
    until,
)
from tests.support.requests import is_error, post

NAME = "classic_ml_inference_service"
README = ROOT / "services" / NAME / "README.md"
IRIS = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
FLOWER = {"dtype": "float", "values": [SETOSA]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's artifact was made by its commands."""
    folder = tmp_path_factory.mktemp("proofs")
    commands = re.findall(r"^python (.*artifacts.*)$", README.read_text(), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = command.replace("examples/", f"{ROOT}/examples/").split()
        subprocess.run(
            [sys.executable, *words], cwd=folder, env=clean_environment(), check=True, timeout=100
        )
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server.wait_ready()


def serving(folder: Path) -> Server:
    """Start the service as the README does."""
    text = README.read_text()
    [(name, value)] = re.findall(
        r"^export (CLASSIC_\w+)='(.*proof_artifact.*)'$", text, re.MULTILINE
    )
    [command] = set(re.findall(r"^serve (.*--bind)=0\.0\.0\.0:4998$", text, re.MULTILINE))
    port = free_port()
    words = ["serve", *f"{command}=127.0.0.1:{port}".split()]
    environment = clean_environment() | {name: value}
    return Server(words, port=port, environment=environment, directory=folder)


@pytest.fixture(scope="module")
def prover(folder: Path) -> Iterator[Prover]:
    """A prover of its own, which checks what the service sends."""
    with Worker() as worker:
        yield Prover(Artifact(folder / "artifacts" / "iris"), worker)


def ask(server: Server, data: Any = FLOWER, *, source: int = 1, **fields: Any) -> httpx.Response:
    message = {"source": source, "data": data, "requires_proof": True, **fields}
    return httpx.post(f"{server.url}/service_output", json=message, timeout=60)


def proving_processes(server: Server) -> list[int]:
    """Return the process ids of the service's proving processes."""
    children = [pid for worker in server.children() for pid in children_of(worker)]
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid in children if b"ml.proving.worker_process" in commands[pid]]


def test_the_curl_of_the_readme_gets_the_answer_its_proof_and_the_true_difference(
    service: Server, prover: Prover
) -> None:
    _, command, *_ = curls_of_readme(README, service.url)
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    answer = json.loads(ran.stdout)
    proof = answer.pop("proof")
    assert answer == service.post(FLOWER).json()
    assert proof["artifact"] == prover.artifact.manifest.id
    values = prover.verify(decode_verify_calldata(bytes.fromhex(proof["calldata"][2:])))
    assert np.allclose(values.inputs, [SETOSA], atol=1e-3)
    difference = np.abs(np.array(values.outputs) - answer["values"]).max()
    assert proof["largest_difference"] == pytest.approx(difference, rel=1e-3)
    assert 0 < difference < 0.001


def test_an_answer_with_its_proof_is_read_by_the_next_container(service: Server) -> None:
    refused = service.post(ask(service).json())
    assert refused.json()["description"] == (
        "values: expected a last dimension of 4; given shape [1, 3]"
    )


@pytest.mark.parametrize("form", ["float32", "decimals"])
def test_a_contract_gets_the_models_answer_and_the_calldata_of_the_verifier(
    service: Server, prover: Prover, form: str
) -> None:
    row = np.array([SETOSA], np.float32)
    vector = TensorRequest(Vector(row, DataType.FLOAT32)).encode()
    data = (vector if form == "float32" else encode_legacy(SETOSA)).hex()
    answer = ask(service, data, source=0, destination=0).json()
    assert list(answer) == [
        *("raw_input", "processed_input", "raw_output", "processed_output", "proof")
    ]
    assert answer["raw_input"] == data
    expected = service.post(FLOWER).json()["values"]
    output = decode_vector(bytes.fromhex(answer["raw_output"])).values
    assert np.allclose(output, expected, atol=1e-7)
    values = prover.verify(decode_verify_calldata(bytes.fromhex(answer["proof"])))
    assert np.allclose(values.outputs, expected, atol=0.001)
    assert ask(service, data, source=0, requires_proof=False).json()["proof"] == ""


@pytest.mark.parametrize(
    ("data", "source", "match"),
    [
        (FLOWER | {"values": [SETOSA] * 2}, 1, "the circuit takes shape [1, 4]; given [2, 4]"),
        (FLOWER | {"dtype": "double"}, 1, "dtype: expected 'float'; given 'double'"),
        (FLOWER | {"values": [[1e9, 0.0, 0.0, 0.0]]}, 1, "the circuit takes numbers within"),
        ({}, 1, "data.dtype"),
        (encode_legacy([1.0]).hex(), 0, "expected a last dimension of 4"),
        ("", 0, ""),
    ],
)
def test_what_the_circuit_does_not_take_is_refused_with_what_is_due(
    service: Server, data: Any, source: int, match: str
) -> None:
    reply = ask(service, data, source=source)
    assert reply.status_code == 400
    assert match in reply.json()["description"]


def test_plain_requests_are_batched_and_answered_while_proofs_run(service: Server) -> None:
    before = service.metrics()
    with in_background(lambda: ask(service), times=3) as proofs:
        until(lambda: service.metrics()["requests_in_flight"] >= 3, "the proofs are asked for")
        with in_background(lambda: service.post(FLOWER), times=24) as answers:
            pass
        assert len(proofs) < 3
    after = service.metrics()
    assert np.allclose([answer.json()["values"] for answer in answers], answers[0].json()["values"])
    assert len({proof.json()["proof"]["proof"] for proof in proofs}) == 3
    runs = after["inference_batch_size_count"] - before["inference_batch_size_count"]
    assert runs < 24 + 3


def test_the_service_lives_while_proofs_run(service: Server) -> None:
    with in_background(lambda: ask(service), times=4) as proofs:
        until(lambda: service.metrics()["requests_in_flight"] >= 4, "the proofs are asked for")
        seconds = []
        while len(proofs) < 4:
            began = time.monotonic()
            assert service.get("/health/live").status_code == 200
            seconds.append(time.monotonic() - began)
    assert [proof.status_code for proof in proofs] == [200] * 4
    assert statistics.median(seconds) < 0.5


def test_a_killed_process_fails_one_request_clearly_and_the_next_one_works(service: Server) -> None:
    [pid] = proving_processes(service)
    scratch = Path(f"/proc/{pid}/fd/1").resolve().parent
    with in_background(lambda: ask(service)) as replies:
        until(lambda: any(scratch.glob("task-*")), "a proof is begun")
        os.kill(pid, signal.SIGKILL)
    assert replies[0].status_code == 500
    assert "The proving process died (SIGKILL" in replies[0].json()["description"]
    assert ask(service).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_proving_process_ends_with_the_service(folder: Path, number: int) -> None:
    with serving(folder) as server:
        server.wait_ready()
        [pid] = proving_processes(server)
        with in_background(lambda: ask(server)) as replies:
            until(lambda: server.metrics()["requests_in_flight"] >= 1, "the proof is asked for")
            server.signal(number)
        assert server.wait() == 0
        assert replies[0].json()["proof"]["calldata"]  # what is in flight is finished
        assert not is_running(pid)


# --- what it is told at the start -------------------------------------------------------------


async def test_without_an_artifact_a_proof_is_refused_with_what_to_configure(
    make_app: MakeApp,
) -> None:
    app = await make_app(TorchInferenceWorkflow, workflow_kw_args=IRIS)
    response = await post(app, FLOWER, requires_proof=True, destination=0)
    assert "configure" in await is_error(response, 400)
    response = await post(app, FLOWER, requires_proof=True)
    assert (response.status_code, response.headers["X-Proof"]) == (200, "none")


async def test_an_answer_beyond_the_tolerance_is_not_delivered(make_app: MakeApp) -> None:
    arguments = {**IRIS, "proof_artifact": str(built_in_iris_artifact()), "proof_tolerance": 0.0005}
    app = await make_app(TorchInferenceWorkflow, workflow_kw_args=arguments)
    origin = {"dtype": "float", "values": [[0.0, 0.0, 0.0, 0.0]]}
    for destination in (0, 1):
        response = await post(app, origin, requires_proof=True, destination=destination)
        described = await is_error(response, 422)
        assert "over the proof_tolerance of 0.0005" in described
    assert (await post(app, origin)).status_code == 200


def test_an_artifact_of_another_model_is_refused_at_the_start_with_how_far_it_is_off(
    start_server: StartServer,
) -> None:
    arguments = {**IRIS, "proof_artifact": str(iris_artifact())}
    server = start_server(TorchInferenceWorkflow, workflow_kw_args=arguments)
    assert server.wait() == 2
    [line] = server.log("workflow_failed")
    assert "does not fit this model" in line["error"]
    assert "differs from the model's by 3.99" in line["error"]


def test_arguments_that_cannot_work_end_the_start_with_all_of_their_faults(
    start_server: StartServer,
) -> None:
    arguments = {**IRIS, "proof_artifact": 3, "proof_tolerance": "none"}
    server = start_server(TorchInferenceWorkflow, workflow_kw_args=arguments)
    assert server.wait() == 2
    assert "proof_artifact: give a text" in server.stderr
    assert "proof_tolerance: Input should be a valid number" in server.stderr
    assert "Traceback" not in server.stderr
