"""The proof service, from its README's commands to a proof that is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ezkl_patches import decode_verify_calldata, encode_verify_calldata
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import DataType, Vector, decode_vector
from tests.services.conftest import curls_of_readme
from tests.support.processes import ROOT, Server, clean_environment, free_port

NAME = "ezkl_proof_service"
SERVICE = ROOT / "services" / NAME
FLOWER = [[5.1, 3.5, 1.4, 0.2]]
DATA = {"dtype": "float", "values": FLOWER}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service from its `.env.example`, in a folder where the README's artifact was made."""
    folder = tmp_path_factory.mktemp("proofs")
    make_artifact(folder)
    port = free_port()
    command = ["serve", NAME, f"--env-file={SERVICE / '.env.example'}", f"--bind=127.0.0.1:{port}"]
    environment = clean_environment()
    with Server(command, port=port, environment=environment, directory=folder) as server:
        yield server.wait_ready()


def make_artifact(folder: Path) -> None:
    lines = (SERVICE / "README.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("python ")]
    assert len(commands) == 2
    for line in commands:
        words = line.replace("examples/", f"{ROOT}/examples/").split()[1:]
        subprocess.run(
            [sys.executable, *words], cwd=folder, env=clean_environment(), check=True, timeout=120
        )


def post(service: Server, path: str, body: Any) -> httpx.Response:
    return httpx.post(service.url + path, json=body, timeout=60)


def test_the_curl_of_the_readme_gets_an_answer_with_a_proof_that_holds(service: Server) -> None:
    command, *_ = curls_of_readme(SERVICE / "README.md", service.url)
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    answer = json.loads(ran.stdout)
    assert int(np.argmax(answer["outputs"]["values"])) == 0  # setosa
    assert set(answer["seconds"]) == {"witness", "prove", "verify"}
    checked = post(service, "/verify", {"calldata": answer["calldata"]}).json()
    assert checked["valid"]
    assert checked["artifact"] == answer["artifact"]
    assert np.allclose(checked["public_values"]["inputs"][0], FLOWER[0], atol=0.01)


def test_a_tampered_proof_or_instance_is_not_valid(service: Server) -> None:
    calldata = bytes.fromhex(service.post(DATA).json()["calldata"][2:])
    for position in (200, len(calldata) - 40):
        altered = bytearray(calldata)
        altered[position] ^= 1
        reply = post(service, "/verify", {"calldata": "0x" + altered.hex()}).json()
        assert not reply["valid"]
        assert reply["reason"]
    for wrong in ("", "0x12", "zz", calldata.hex()[:-2]):
        assert post(service, "/verify", {"calldata": wrong}).status_code == 400


def test_a_contract_gets_the_vector_and_the_proof_that_it_asks_for(service: Server) -> None:
    vector = Vector(np.array(FLOWER, np.float32), DataType.FLOAT32)
    message = {"source": 0, "destination": 0, "data": TensorRequest(vector).encode().hex()}
    plain = post(service, "/service_output", {**message, "requires_proof": False}).json()
    proved = post(service, "/service_output", {**message, "requires_proof": True}).json()
    assert plain["proof"] == ""
    assert proved["raw_output"] == plain["raw_output"]
    off_chain = np.array(service.post(DATA).json()["outputs"]["values"], np.float32)
    assert np.array_equal(decode_vector(bytes.fromhex(proved["raw_output"])).values, off_chain)
    assert post(service, "/verify", {"calldata": proved["proof"]}).json()["valid"]


def test_artifacts_are_listed_and_their_verifier_can_be_had(service: Server) -> None:
    [artifact] = service.get("/artifacts").json()["artifacts"]
    assert artifact["name"] == "iris"
    assert artifact["srs"] == "test"
    assert service.get("/artifacts/iris").json()["files"]
    source = service.get(artifact["verifier"])
    assert "function verifyProof" in source.text
    assert service.get("/artifacts/none").status_code == 404


@pytest.mark.parametrize(
    "data",
    [
        {"dtype": "float", "values": [[1.0]]},
        {"dtype": "float", "values": [[1e9, 0, 0, 0]]},
        {**DATA, "model_id": "none"},
        {},
    ],
)
def test_what_the_circuit_does_not_take_is_refused(service: Server, data: Any) -> None:
    reply = service.post(data)
    assert reply.status_code in (400, 404)
    assert reply.json()["description"]


def test_a_proof_with_anything_behind_it_is_not_valid(service: Server) -> None:
    calldata = post(service, "/service_output", {"source": 1, "data": DATA}).json()["calldata"]
    assert post(service, "/verify", {"calldata": calldata}).json()["valid"]
    whole = decode_verify_calldata(bytes.fromhex(calldata[2:]))
    longer = encode_verify_calldata(whole.proof + bytes(32), whole.instances).hex()
    assert post(service, "/verify", {"calldata": longer}).json()["valid"] is False
    for behind in ("00", "ff" * 32, "00" * 64):
        refused = post(service, "/verify", {"calldata": calldata + behind})
        assert refused.status_code == 400
        assert "holds more than the call" in refused.json()["description"]
