"""A contract asks for a proved answer and keeps it only if the proof holds."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from eth_abi.abi import decode, encode

from ezkl_patches import FIELD_ORDER, decode_verify_calldata, encode_verify_calldata
from ml.proving.artifact import Artifact
from ml.proving.building import build
from ml.proving.verifier_code import VerifierCompiler
from ml.testing.ethereum import EthereumError
from ml.testing.infernet_relay import Container, InfernetRelay
from ml.testing.node_reply import Delivery
from ml.testing.onchain_relay import NO_ONE, OnchainRelay
from tests.chain.conftest import Chain, compiled, compiler
from tests.support.circuits import (
    SETOSA,
    built_in_iris_artifact,
    iris_artifact,
    iris_request,
)
from tests.support.processes import SERVICE, Server, clean_environment, free_port

NAME = "ezkl_proof_service"
VIRGINICA = [6.3, 3.3, 6.0, 2.5]
DECIMALS = 18
DELIVER = "deliverCompute(uint32,uint32,bytes,bytes,bytes,address)"
CIRCUIT = "(address,uint16,uint16,uint8,uint8,uint64,uint64)"

Change = Callable[[Delivery], Delivery]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("proofs") / "iris"
    command = VerifierCompiler(shlex.join(compiler()))
    build(iris_request(folder, compiler=command), lambda *_: None)
    return Artifact(folder)


@pytest.fixture(scope="module")
def service(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    without_code = iris_artifact(("hashed", "fixed", "public"))
    environment = clean_environment(
        EZKL_WORKFLOW_POSITIONAL_ARGS=[str(artifact.folder), str(without_code)],
        WORKING_PATH=str(tmp_path_factory.mktemp("working")),
    )
    command = ["serve", NAME, f"--bind=127.0.0.1:{port}"]
    with Server(command, port=port, environment=environment) as server:
        yield server.wait_ready()


@dataclass(frozen=True)
class Parties:
    """A consumer of proved answers, the node, and the service behind it."""

    chain: Chain
    artifact: Artifact
    relay: InfernetRelay
    node: OnchainRelay
    consumer: str

    async def ask(self, values: list[float], decimals: int = DECIMALS) -> int:
        """Ask about a flower by a transaction; returns the id that the node sees."""
        arguments = [[1, 4], [round(value * 10**decimals) for value in values], decimals]
        signature = "ask(uint16[],int128[],uint8)"
        await self.chain.ethereum.send(self.consumer, signature, arguments, self.chain.user)
        [subscription_id] = await self.node.new_subscriptions()
        return subscription_id

    async def proved(self, subscription_id: int) -> Delivery:
        """Return what the node would deliver."""
        signature = "getContainerInputs(uint32,uint32,uint32,address)"
        arguments = [subscription_id, 1, 0, self.chain.node]
        ethereum = self.chain.ethereum
        (data,) = await ethereum.call(self.consumer, signature, arguments, ["bytes"])
        return await self.relay.callback(self.relay.container_ids, data, requires_proof=True)

    async def deliver(self, subscription_id: int, delivery: Delivery) -> None:
        arguments = [subscription_id, 1, delivery.input, delivery.output, delivery.proof, NO_ONE]
        chain = self.chain
        await chain.ethereum.send(chain.coordinator, DELIVER, arguments, chain.node)

    async def refuses(self, subscription_id: int, delivery: Delivery, error: str) -> None:
        """Check that a delivery is reverted with an error, and nothing is kept."""
        selector = await self.selector(error) if error else ""
        with pytest.raises(EthereumError, match=f"revert.*{selector}"):
            await self.deliver(subscription_id, delivery)
        assert await self.kept(subscription_id) == ()

    async def selector(self, error: str) -> str:
        """Return how a refusal with this error begins."""
        return "0x" + (await self.chain.ethereum.keccak(error.encode()))[:4].hex()

    async def kept(self, subscription_id: int) -> tuple[float, ...]:
        """Return the outputs that the contract holds."""
        signature, types = "answer(uint32)", ["int256[]", "uint8"]
        outputs, scale = await self.chain.ethereum.call(
            self.consumer, signature, [subscription_id], types
        )
        return tuple(output / 2**scale for output in outputs)

    def public_outputs(self, delivery: Delivery) -> tuple[float, ...]:
        """Return the outputs that a proof speaks of, as the library reads them."""
        instances = decode_verify_calldata(delivery.proof).instances
        [outputs] = self.artifact.layout.decode(instances).outputs
        return outputs


async def deployed(chain: Chain, artifact: Artifact, service: Server, code: bytes) -> Parties:
    """Return the parties around a new consumer, whose verifier has this code."""
    verifier = await chain.ethereum.deploy(code, "()", [], chain.user)
    return await deployed_with(chain, artifact, service, verifier)


async def deployed_with(
    chain: Chain, artifact: Artifact, service: Server, verifier: str, name: str = NAME
) -> Parties:
    [inputs], [outputs] = artifact.manifest.inputs, artifact.manifest.outputs
    counts = math.prod(inputs.shape), math.prod(outputs.shape)
    tolerance = round(0.001 * 2**outputs.scale)
    circuit = (verifier, *counts, inputs.scale, outputs.scale, 0, tolerance)
    consumer = await chain.ethereum.deploy(
        chain.contracts["ProofConsumer"],
        f"(address,{CIRCUIT},string,string)",
        [chain.coordinator, circuit, name, "iris" if name == NAME else ""],
        chain.user,
    )
    relay = InfernetRelay([Container(name, service.url, generates_proofs=True)])
    node = OnchainRelay(relay, chain.ethereum, chain.coordinator, chain.node)
    return Parties(chain, artifact, relay, node, consumer)


@pytest.fixture
async def parties(chain: Chain, artifact: Artifact, service: Server) -> Parties:
    """With a verifier from the code that the service hands out."""
    code = bytes.fromhex(service.get("/artifacts/iris/verifier.bin").text)
    return await deployed(chain, artifact, service, code)


# --- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [6, 18])
async def test_a_contract_keeps_exactly_the_outputs_that_were_proved(
    parties: Parties, decimals: int
) -> None:
    asked = await parties.ask(SETOSA, decimals)
    delivery = await parties.node.answer(asked)
    assert await parties.kept(asked) == parties.public_outputs(delivery) != ()
    assert min(parties.public_outputs(delivery)) < 0  # the upper end of the field


async def test_each_question_keeps_its_own_answer(parties: Parties) -> None:
    answers = []
    for flower in (SETOSA, VIRGINICA):
        asked = await parties.ask(flower)
        delivery = await parties.node.answer(asked)
        answers.append((asked, parties.public_outputs(delivery)))
    assert [await parties.kept(asked) for asked, _ in answers] == [kept for _, kept in answers]
    assert answers[0][1] != answers[1][1]


async def test_a_service_without_a_proof_to_give_leaves_nothing(parties: Parties) -> None:
    """What the node would deliver if it had not asked for a proof."""
    asked = await parties.ask(SETOSA)
    delivery = await parties.proved(asked)
    await parties.refuses(asked, replace(delivery, proof=b""), "WrongSelector(bytes4)")


async def test_the_classic_services_answer_is_kept_as_it_was_proved(chain: Chain) -> None:
    """Its own model's answer, which is delivered, is within the tolerance of the circuit's."""
    artifact = Artifact(built_in_iris_artifact())
    codes = compiled({"verifier.sol": artifact.read("verifier.sol").decode()})
    verifier = await chain.ethereum.deploy(codes["Halo2Verifier"], "()", [], chain.user)
    port = free_port()
    arguments = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    environment = clean_environment(
        workflow_kw_args={**arguments, "proof_artifact": str(artifact.folder)}
    )
    command = ["serve", SERVICE, f"--bind=127.0.0.1:{port}"]
    with Server(command, port=port, environment=environment) as server:
        server.wait_ready()
        parties = await deployed_with(chain, artifact, server, verifier, SERVICE)
        asked = await parties.ask(SETOSA)
        delivery = await parties.node.answer(asked)
        assert await parties.kept(asked) == parties.public_outputs(delivery) != ()
        altered = with_another_output(await parties.proved(await parties.ask(VIRGINICA)))
        await parties.refuses(asked + 1, altered, "OutputMismatch(uint256,int256,int256)")


async def test_an_answer_of_fewer_decimals_than_the_contract_takes_is_refused(
    parties: Parties,
) -> None:
    asked = await parties.ask(SETOSA, decimals=1)
    delivery = await parties.proved(asked)
    await parties.refuses(asked, delivery, "OutputMismatch(uint256,int256,int256)")


# --- what is refused --------------------------------------------------------------------------


def with_proof(position: int) -> Change:
    """Return what flips a bit of the proof."""

    def change(delivery: Delivery) -> Delivery:
        proof = decode_verify_calldata(delivery.proof)
        altered = bytearray(proof.proof)
        altered[position] ^= 1
        return replace(delivery, proof=encode_verify_calldata(bytes(altered), proof.instances))

    return change


def with_instance(position: int) -> Change:
    """Return what alters an instance by one quantum."""

    def change(delivery: Delivery) -> Delivery:
        proof = decode_verify_calldata(delivery.proof)
        altered = list(proof.instances)
        altered[position] = (altered[position] + 1) % FIELD_ORDER
        return replace(delivery, proof=encode_verify_calldata(proof.proof, altered))

    return change


def without_an_instance(delivery: Delivery) -> Delivery:
    proof = decode_verify_calldata(delivery.proof)
    return replace(delivery, proof=encode_verify_calldata(proof.proof, proof.instances[:-1]))


def with_another_output(delivery: Delivery) -> Delivery:
    """The answer beside the proof, one of its numbers off by 0.01."""
    types = ["uint8", "uint8", "uint8", "uint16[]", "int128[]"]
    raw, processed = decode(["bytes", "bytes"], delivery.output)
    *head, values = decode(types, raw)
    raw = encode(types, [*head, [values[0] + 10 ** (DECIMALS - 2), *values[1:]]])
    return replace(delivery, output=encode(["bytes", "bytes"], [raw, processed]))


def with_another_selector(delivery: Delivery) -> Delivery:
    return replace(delivery, proof=bytes.fromhex("af83a18d") + delivery.proof[4:])


def with_garbage(delivery: Delivery) -> Delivery:
    return replace(delivery, proof=delivery.proof[:4] + b"\xff" * 64)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(with_proof(0), "ProofRefused()", id="first byte of the proof"),
        pytest.param(with_proof(-1), "ProofRefused()", id="last byte of the proof"),
        pytest.param(with_instance(0), "ProofRefused()", id="input"),
        pytest.param(with_instance(4), "ProofRefused()", id="output"),
        pytest.param(without_an_instance, "WrongCount(uint256,uint256)", id="too few instances"),
        pytest.param(
            with_another_output, "OutputMismatch(uint256,int256,int256)", id="delivered output"
        ),
        pytest.param(with_another_selector, "WrongSelector(bytes4)", id="selector"),
        pytest.param(with_garbage, "", id="no abi"),
    ],
)
async def test_an_altered_delivery_leaves_nothing_and_a_right_one_may_follow(
    parties: Parties, change: Change, error: str
) -> None:
    asked = await parties.ask(SETOSA)
    delivery = await parties.proved(asked)
    await parties.refuses(asked, change(delivery), error)
    await parties.deliver(asked, delivery)
    assert await parties.kept(asked) == parties.public_outputs(delivery)


async def test_the_proof_of_an_earlier_answer_is_no_answer_to_another_question(
    parties: Parties,
) -> None:
    earlier = await parties.node.answer(await parties.ask(VIRGINICA))
    asked = await parties.ask(SETOSA)
    await parties.refuses(asked, earlier, "InputMismatch(uint256,int256,int256)")


async def test_another_circuits_verifier_refuses_the_proof(
    chain: Chain, artifact: Artifact, service: Server
) -> None:
    """The same model over another SRS."""
    codes = compiled({"verifier.sol": (iris_artifact() / "verifier.sol").read_text()})
    parties = await deployed(chain, artifact, service, codes["Halo2Verifier"])
    asked = await parties.ask(SETOSA)
    await parties.refuses(asked, await parties.proved(asked), "ProofRefused()")


async def test_an_answer_to_what_the_contract_did_not_ask_is_refused(parties: Parties) -> None:
    """Even from its coordinator."""
    delivery = await parties.node.answer(await parties.ask(SETOSA))
    signature = "rawReceiveCompute(uint32,uint32,uint16,address,bytes,bytes,bytes,bytes32,uint256)"
    values = [delivery.input, delivery.output, delivery.proof, bytes(32), 0]
    arguments = [99, 1, 1, parties.chain.node, *values]
    with pytest.raises(EthereumError, match=await parties.selector("NothingAsked(uint32)")):
        await parties.chain.ethereum.send(
            parties.consumer, signature, arguments, parties.chain.coordinator
        )


async def test_a_verifier_that_is_no_contract_is_not_taken(
    parties: Parties, artifact: Artifact, service: Server
) -> None:
    """A call of it would succeed."""
    with pytest.raises(EthereumError, match=await parties.selector("NoContract(address)")):
        await deployed_with(parties.chain, artifact, service, parties.chain.user)


async def test_a_question_that_cannot_be_answered_is_not_asked(parties: Parties) -> None:
    for values, decimals, error in (
        ([1, 2, 3], 0, "WrongCount(uint256,uint256)"),
        ([1, 2, 3, 4], 37, "OutOfRange()"),
    ):
        with pytest.raises(EthereumError, match=await parties.selector(error)):
            await parties.chain.ethereum.send(
                parties.consumer,
                "ask(uint16[],int128[],uint8)",
                [[1, len(values)], values, decimals],
                parties.chain.user,
            )


# --- what the service hands out ---------------------------------------------------------------


def test_the_code_is_what_the_compiler_makes_of_the_source(service: Server) -> None:
    """Whatever the file was called: it holds no name, no path and no address."""
    source = service.get("/artifacts/iris/verifier.sol").text
    codes = compiled({"elsewhere/other.sol": source})
    handed_out = service.get("/artifacts/iris/verifier.bin").text
    assert bytes.fromhex(handed_out) == codes["Halo2Verifier"]
    manifest = service.get("/artifacts/iris").json()
    assert manifest["verifier_compiler"].startswith("0.8.37+commit.")
    assert {"verifier.bin", "verifier.abi.json"} <= set(manifest["files"])


def test_without_the_code_the_service_says_how_to_get_it(service: Server) -> None:
    assert service.get("/artifacts/iris-hashed/verifier.sol").status_code == 200
    for name in ("verifier.bin", "verifier.abi.json"):
        reply = service.get(f"/artifacts/iris-hashed/{name}")
        assert reply.status_code == 404
        assert "npm install solc" in reply.json()["description"]


def test_whoever_checks_proofs_gets_abi_settings_and_key_and_never_the_proving_key(
    service: Server, artifact: Artifact
) -> None:
    [function] = service.get("/artifacts/iris/verifier.abi.json").json()
    assert (function["name"], function["type"]) == ("verifyProof", "function")
    for name in ("settings.json", "vk.key"):
        file: Path = artifact.folder / name
        assert service.get(f"/artifacts/iris/{name}").content == file.read_bytes()
    for name in ("pk.key", "kzg.srs", "self_test.json", "..%2Fpk.key", "manifest.json"):
        reply: httpx.Response = service.get(f"/artifacts/iris/{name}")
        assert reply.status_code == 404
        assert reply.json()["code"] == "404"
