"""The classic ML service as its documents describe it, on its built-in models."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from eth_abi.abi import encode

from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from tests.services.conftest import ServeExample, curls_of_readme
from tests.support.processes import ROOT, Server, clean_environment, free_port

NAME = "classic_ml_inference_service"
SERVICE = ROOT / "services" / NAME
DOCUMENT_REQUEST = json.loads((ROOT / "examples" / "classic_request.json").read_text())


@pytest.fixture(scope="module")
def service(serve_example: ServeExample) -> str:
    return serve_example(NAME, workers=2).url


def post(url: str, message: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}/service_output", json=message, timeout=30)


def test_the_documents_request_is_answered_with_a_tensor(service: str) -> None:
    answer = post(service, DOCUMENT_REQUEST)
    assert answer.status_code == 200
    tensor = answer.json()
    assert tensor["dtype"] == "double"
    assert tensor["shape"] == [1, 2]
    assert sum(tensor["values"][0]) == pytest.approx(1.0)


def test_the_curl_of_the_readme_gets_an_answer(service: str) -> None:
    command, *_ = curls_of_readme(SERVICE / "README.md", service)
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=30)
    assert json.loads(ran.stdout) == post(service, DOCUMENT_REQUEST).json()


def test_the_tensor_of_the_readme_is_answered_as_bytes(service: str, tmp_path: Path) -> None:
    _, _, commands, _ = curls_of_readme(SERVICE / "README.md", service)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-ec", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout == b"(2, 2)\n"


def test_an_answer_is_an_input_of_the_next_container(service: str) -> None:
    answer = post(service, DOCUMENT_REQUEST).json()
    refused = post(service, {"source": 1, "destination": 1, "data": answer})
    assert refused.status_code == 400
    expected = "values: expected a last dimension of 69; given shape [1, 2]"
    assert refused.json()["description"] == expected


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_a_contract_gets_the_vector_in_the_arithmetic_it_asks_for(
    service: str, arithmetic: Arithmetic
) -> None:
    values = np.array(DOCUMENT_REQUEST["data"]["values"])
    vector = Vector(values, DataType.FLOAT64)
    request = TensorRequest(vector, output_arithmetic=arithmetic, output_decimals=9)
    data = request.encode().hex()
    answer = post(service, {"source": 0, "data": data}).json()
    assert set(answer) == {
        "raw_input",
        "processed_input",
        "raw_output",
        "processed_output",
        "proof",
    }
    assert answer["raw_input"] == data
    output = decode_vector(bytes.fromhex(answer["raw_output"]))
    assert output.arithmetic is arithmetic
    off_chain = post(service, DOCUMENT_REQUEST).json()["values"]
    np.testing.assert_allclose(output.values, off_chain, atol=1e-9)


def test_a_legacy_int256_array_is_one_row_of_doubles(service: str) -> None:
    row = DOCUMENT_REQUEST["data"]["values"][0]
    scaled = [round(value * 10**18) for value in row]
    data = encode(["int256[]"], [scaled]).hex()
    answer = post(service, {"source": 0, "destination": 0, "data": data}).json()
    off_chain = post(service, DOCUMENT_REQUEST).json()["values"]
    output = decode_vector(bytes.fromhex(answer["raw_output"])).values
    np.testing.assert_allclose(output, off_chain, rtol=1e-9)


def test_a_delegated_subscription_gets_the_five_fields_for_an_object(service: str) -> None:
    answer = post(service, {**DOCUMENT_REQUEST, "destination": 0}).json()
    assert json.loads(bytes.fromhex(answer["raw_input"])) == DOCUMENT_REQUEST["data"]
    assert decode_vector(bytes.fromhex(answer["raw_output"])).values.shape == (1, 2)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"values": [[1.0]]}, "data.dtype"),
        ({"dtype": "double"}, "data.values"),
        ({"dtype": "doubel", "values": [[1.0]]}, "did you mean 'double'"),
        ({"dtype": "double", "values": [[1.0], [1.0, 2.0]]}, "data.values"),
        ({"dtype": "double", "values": [["1.0"]]}, "data.values"),
        ({"dtype": "double", "values": [[1.0, 2.0]]}, "expected a last dimension of 69"),
        ({"dtype": "float", "values": [[0.0] * 69]}, "expected 'double'; given 'float'"),
        ("0011", "data"),
        (None, "data"),
    ],
)
def test_a_wrong_tensor_is_refused_with_the_field_and_what_is_due(
    service: str, data: Any, fault: str
) -> None:
    answer = post(service, {"source": 1, "data": data})
    assert answer.status_code == 400
    assert answer.json()["code"] == "400"
    assert fault in answer.json()["description"]


def test_the_router_is_told_which_model_is_served(service: str) -> None:
    resources = f"{service}/service-resources"
    assert httpx.get(resources).json()["service_id"] == "classic_ml_inference_service"
    assert httpx.get(resources, params={"model_id": "classifier_69"}).json() == {"supported": True}
    assert httpx.get(resources, params={"model_id": "other/model"}).json() == {"supported": False}


def test_the_environment_of_the_document_checks_out() -> None:
    serve = Path(sys.executable).with_name("serve")
    command = [serve, NAME, "--check", "--env-file", SERVICE / ".env.example"]
    ran = subprocess.run(command, env=clean_environment(), capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr.decode()
    shown = json.loads(ran.stdout)
    assert shown["workflow_kw_args"]["model_args"] == {"name": "classifier_69"}


def test_the_workflow_of_the_main_readme_runs() -> None:
    text = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == b"HELLO"


def test_the_several_models_of_the_readme_are_answered(tmp_path: Path) -> None:
    text = (SERVICE / "README.md").read_text().partition("## Several models")[2]
    for command in re.findall(r"^(?:mkdir|cp) .*$", text, re.MULTILINE):
        command = command.replace("src/ml/", f"{ROOT}/src/ml/")
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=30)
    exports = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", text, re.MULTILINE))
    port = free_port()
    command = ["serve", NAME, f"--bind=127.0.0.1:{port}"]
    environment = clean_environment() | exports
    with Server(command, port=port, environment=environment, directory=tmp_path) as server:
        server.wait_ready()
        curl = curls_of_readme(SERVICE / "README.md", server.url)[-1]
        ran = subprocess.run(["bash", "-c", curl], capture_output=True, check=True, timeout=60)
        assert json.loads(ran.stdout)["shape"] == [1, 3]
        assert post(server.url, DOCUMENT_REQUEST).json()["shape"] == [1, 2]
        models = httpx.get(f"{server.url}/health/ready", timeout=30).json()["models"]
        assert models["loaded"] == ["classifier_69", "iris"]
