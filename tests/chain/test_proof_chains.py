"""Chains of containers in which the proof service is the last hop, or another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from eth_abi.abi import decode

from ezkl_patches import decode_verify_calldata
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.proving.artifact import Artifact
from ml.testing.infernet_relay import Container, InfernetRelay
from ml.testing.node_reply import NotDelivered
from tests.chain.conftest import Chain, compiled
from tests.support.circuits import SETOSA, iris_artifact
from tests.support.processes import SERVICE, Server, clean_environment, free_port

EZKL = "ezkl_proof_service"
FLOWER = {"dtype": "float", "values": [SETOSA]}
#: The same from a contract, with 18 decimals.
ASKED = TensorRequest(Vector(np.array([SETOSA]), DataType.FLOAT64, Arithmetic.FIXED_POINT)).encode()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfernetRelay]:
    """A node with the proof service, and the classic one around a model that gives its input."""
    import torch

    folder: Path = tmp_path_factory.mktemp("containers")
    layer = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.eye_(layer.weight)
    torch.save(layer, folder / "identity.torch")
    environments = {
        SERVICE: clean_environment(workflow_kw_args={"path": str(folder / "identity.torch")}),
        EZKL: clean_environment(
            EZKL_WORKFLOW_POSITIONAL_ARGS=[str(iris_artifact())], WORKING_PATH=str(folder)
        ),
    }
    with ExitStack() as stack:
        servers = {}
        for name, environment in environments.items():
            port = free_port()
            command = ["serve", name, f"--bind=127.0.0.1:{port}"]
            servers[name] = stack.enter_context(Server(command, port=port, environment=environment))
        yield InfernetRelay(
            Container(name, server.wait_ready().url) for name, server in servers.items()
        )


async def test_a_verifier_takes_the_proof_of_a_chain_whose_first_hop_makes_none(
    relay: InfernetRelay, chain: Chain
) -> None:
    delivery = await relay.callback([SERVICE, EZKL], ASKED, requires_proof=True)
    codes = compiled({"verifier.sol": (iris_artifact() / "verifier.sol").read_text()})
    verifier = await chain.ethereum.deploy(codes["Halo2Verifier"], "()", [], chain.user)
    call = {"to": verifier, "data": "0x" + delivery.proof.hex()}
    assert int(await chain.ethereum.request("eth_call", call, "latest"), 16) == 1
    instances = decode_verify_calldata(delivery.proof).instances
    values = Artifact(iris_artifact()).layout.decode(instances)
    assert np.allclose(values.inputs, [SETOSA], atol=1e-3)
    raw_output, _ = decode(["bytes", "bytes"], delivery.output)
    assert np.allclose(decode_vector(raw_output).values, values.outputs, atol=1e-3)


async def test_a_web_client_gets_the_proof_of_the_last_hop(relay: InfernetRelay) -> None:
    first, last = await relay.outputs([SERVICE, EZKL], FLOWER, requires_proof=True)
    assert first.output.keys() == {"dtype", "shape", "values"}
    assert np.allclose(last.output["public_values"]["inputs"], [SETOSA], atol=1e-3)
    assert bytes.fromhex(last.output["calldata"][2:])


async def test_what_a_proof_service_hands_on_is_a_tensor_to_the_next_container(
    relay: InfernetRelay,
) -> None:
    """Which here takes rows of four, and says of which shape it got one."""
    given = r"expected a last dimension of 4; given shape \[1, 3\]"
    with pytest.raises(NotDelivered, match=given):
        await relay.callback([EZKL, SERVICE], ASKED)
    with pytest.raises(NotDelivered, match="makes no proofs"):
        await relay.callback([EZKL, SERVICE], ASKED, requires_proof=True)
    first, last = await relay.outputs([EZKL, SERVICE], FLOWER, requires_proof=True)
    assert first.output["proof"]
    assert "expected a last dimension of 4; given shape [1, 3]" in last.output["description"]


async def test_a_failure_of_the_first_hop_is_what_the_last_one_says(relay: InfernetRelay) -> None:
    wrong = {"dtype": "float", "values": [[1.0]]}
    first, last = await relay.outputs([SERVICE, EZKL], wrong, requires_proof=True)
    assert first.output["code"] == last.output["code"] == "400"
    told = f"the container before this one refused: {first.output['description']}"
    assert last.output["description"].startswith(told)
