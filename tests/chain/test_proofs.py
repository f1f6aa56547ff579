"""Proofs that contracts accept, and what they refuse: ezkl's verifiers and our data attestor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_abi.abi import encode

from ezkl_patches import (
    DATA_ATTESTOR_SOURCE,
    DataSource,
    Proof,
    encode_attestor_arguments,
    encode_data_attestation_calldata,
    encode_register_vka_calldata,
    encode_verify_calldata,
    load_vka,
)
from ml.proving.artifact import Artifact
from ml.proving.prover import ProvedAnswer, Prover
from ml.proving.worker import Worker
from ml.testing.ethereum import Ethereum, EthereumError
from tests.chain.conftest import CONTRACTS, compiled
from tests.support.circuits import SETOSA, iris_artifact, make_reusable

TRUE = (1).to_bytes(32, "big")
#: The iris as a contract has it: 18 decimals.
ON_CHAIN = [round(value * 10) * 10**17 for value in SETOSA]
HASHED = ("hashed", "fixed", "public")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def prover(worker: Worker) -> Prover:
    return Prover(Artifact(iris_artifact()), worker)


@pytest.fixture(scope="module")
def answer(prover: Prover) -> ProvedAnswer:
    return prover.prove([np.array([SETOSA], np.float32)])


@pytest.fixture(scope="module")
def reusable(prover: Prover, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reusable")
    files = prover.artifact.files
    worker.run(partial(make_reusable, files, folder / "reusable.sol", folder / "vka"))
    return folder


@pytest.fixture(scope="module")
def codes(reusable: Path) -> dict[str, bytes]:
    sources = {
        "verifier.sol": (iris_artifact() / "verifier.sol").read_text(),
        "hashed.sol": (iris_artifact(HASHED) / "verifier.sol")
        .read_text()
        .replace("contract Halo2Verifier", "contract HashedVerifier"),
        "reusable.sol": (reusable / "reusable.sol").read_text(),
        "DataAttestor.sol": DATA_ATTESTOR_SOURCE.read_text(),
        "DataFeed.sol": (CONTRACTS / "DataFeed.sol").read_text(),
    }
    return compiled(sources)


@dataclass(frozen=True)
class Contracts:
    """An EVM with a verifier on it, and what deploys the others."""

    ethereum: Ethereum
    codes: dict[str, bytes]
    account: str
    verifier: str

    async def deploy(self, name: str, arguments: bytes = b"") -> str:
        return await self.ethereum.deploy(self.codes[name] + arguments, "()", [], self.account)

    async def attestor(self, sources: list[DataSource], **options: int) -> str:
        return await self.deploy(
            "DataAttestor", encode_attestor_arguments(self.verifier, sources, **options)
        )

    async def feed(self, values: list[int]) -> str:
        return await self.deploy("DataFeed", encode(["int256[]"], [values]))

    async def call(self, contract: str, calldata: bytes) -> bytes:
        call = {"to": contract, "data": "0x" + calldata.hex()}
        return bytes.fromhex((await self.ethereum.request("eth_call", call, "latest"))[2:])

    async def refuses(self, contract: str, calldata: bytes, match: str = "revert") -> None:
        with pytest.raises(EthereumError, match=match):
            await self.call(contract, calldata)

    async def error(self, signature: str) -> str:
        """Return how a refusal with this error begins."""
        return "0x" + (await self.ethereum.keccak(signature.encode()))[:4].hex()


@pytest.fixture
async def chain(anvil: str, codes: dict[str, bytes]) -> AsyncIterator[Contracts]:
    async with Ethereum(anvil) as ethereum:
        [account, *_] = await ethereum.accounts()
        verifier = await ethereum.deploy(codes["Halo2Verifier"], "()", [], account)
        yield Contracts(ethereum, codes, account, verifier)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def changed(instances: tuple[int, ...], position: int) -> list[int]:
    return [value + (i == position) for i, value in enumerate(instances)]


async def array_source(chain: Contracts, values: list[int] = ON_CHAIN) -> DataSource:
    call = (await chain.ethereum.keccak(b"all()"))[:4]
    return DataSource(await chain.feed(values), call, decimals=18, scale=13, count=len(values))


# --- the verifier of one circuit --------------------------------------------------------------


async def test_the_generated_verifier_accepts_our_calldata(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    assert await chain.call(chain.verifier, answer.calldata) == TRUE


@pytest.mark.parametrize("position", [0, 1500, -1])
async def test_a_flipped_byte_of_the_proof_is_refused(
    chain: Contracts, answer: ProvedAnswer, position: int
) -> None:
    proof = answer.proof
    altered = flipped(proof.proof, position % len(proof.proof))
    await chain.refuses(chain.verifier, encode_verify_calldata(altered, proof.instances))


@pytest.mark.parametrize("position", [0, 3, 4, 6], ids=["input", "input", "output", "output"])
async def test_an_altered_input_or_output_is_refused(
    chain: Contracts, answer: ProvedAnswer, position: int
) -> None:
    instances = changed(answer.proof.instances, position)
    await chain.refuses(chain.verifier, encode_verify_calldata(answer.proof.proof, instances))


async def test_other_lengths_and_another_function_are_refused(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    proof, instances = answer.proof.proof, answer.proof.instances
    for other in (
        encode_verify_calldata(proof + bytes(32), instances),
        encode_verify_calldata(proof[:-32], instances),
        encode_verify_calldata(proof, instances[:-1]),
        encode_verify_calldata(proof, [*instances, 0]),
        bytes.fromhex("af83a18d") + answer.calldata[4:],
    ):
        await chain.refuses(chain.verifier, other)


async def test_hashed_inputs_are_proved_and_not_shown(chain: Contracts, worker: Worker) -> None:
    prover = Prover(Artifact(iris_artifact(HASHED)), worker)
    answer = prover.prove([np.array([SETOSA], np.float32)])
    assert (answer.public_values.inputs, len(answer.public_values.input_hashes)) == ((), 1)
    verifier = await chain.deploy("HashedVerifier")
    assert await chain.call(verifier, answer.calldata) == TRUE
    hash_altered = changed(answer.proof.instances, 0)
    await chain.refuses(verifier, encode_verify_calldata(answer.proof.proof, hash_altered))


# --- the verifier of all circuits -------------------------------------------------------------


async def test_the_reusable_verifier_takes_a_registered_key(
    chain: Contracts, answer: ProvedAnswer, reusable: Path
) -> None:
    vka = load_vka(reusable / "vka")
    verifier = await chain.deploy("Halo2VerifierReusable")
    proof = answer.proof
    calldata = encode_verify_calldata(proof.proof, proof.instances, vka=vka)
    await chain.refuses(verifier, calldata, match="VKA not registered")
    register = {"from": chain.account, "to": verifier}
    data = "0x" + encode_register_vka_calldata(vka).hex()
    await chain.ethereum.transact(register | {"data": data})
    assert (await chain.call(verifier, calldata))[:32] == TRUE
    altered = encode_verify_calldata(flipped(proof.proof, 9), proof.instances, vka=vka)
    await chain.refuses(verifier, altered)


# --- data attestation -------------------------------------------------------------------------


async def test_the_attestor_accepts_a_proof_of_what_is_on_the_chain(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    attestor = await chain.attestor([await array_source(chain)])
    calldata = encode_data_attestation_calldata(chain.verifier, answer.calldata)
    assert await chain.call(attestor, calldata) == TRUE


async def test_data_that_changed_on_the_chain_is_refused_until_it_is_back(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    source = await array_source(chain)
    attestor = await chain.attestor([source])
    calldata = encode_data_attestation_calldata(chain.verifier, answer.calldata)
    mismatch = await chain.error("DataMismatch(uint256,int256,int256)")
    for value, accepted in ((ON_CHAIN[2] + 10**15, False), (ON_CHAIN[2], True)):
        await chain.ethereum.send(source.contract, "set(uint256,int256)", [2, value], chain.account)
        if accepted:
            assert await chain.call(attestor, calldata) == TRUE
        else:
            await chain.refuses(attestor, calldata, match=mismatch)
            assert await chain.call(chain.verifier, answer.calldata) == TRUE


async def test_the_attestor_refuses_what_the_verifier_refuses(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    attestor = await chain.attestor([await array_source(chain)])
    proof = answer.proof
    refusals = {
        "ProofRefused()": [
            encode_verify_calldata(flipped(proof.proof, 7), proof.instances),
            encode_verify_calldata(proof.proof, changed(proof.instances, 6)),
        ],
        "DataMismatch(uint256,int256,int256)": [
            encode_verify_calldata(proof.proof, changed(proof.instances, 0))
        ],
        "WrongSelector(bytes4)": [bytes.fromhex("af83a18d") + answer.calldata[4:], b"\x1e"],
        "TooFewInstances(uint256)": [encode_verify_calldata(proof.proof, proof.instances[:3])],
    }
    for error, calls in refusals.items():
        for call in calls:
            calldata = encode_data_attestation_calldata(chain.verifier, call)
            await chain.refuses(attestor, calldata, match=await chain.error(error))


async def test_the_attestor_calls_its_own_verifier_alone(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    attestor = await chain.attestor([await array_source(chain)])
    other = await chain.deploy("Halo2Verifier")
    calldata = encode_data_attestation_calldata(other, answer.calldata)
    await chain.refuses(attestor, calldata, match=await chain.error("WrongVerifier(address)"))


async def test_outputs_and_single_values_are_attested_too(
    chain: Contracts, prover: Prover, answer: ProvedAnswer
) -> None:
    """Negative numbers, tuples, one value at a time; a fresh source that says another output."""
    [outputs] = answer.public_values.outputs
    on_chain = [round(value * 10**18) for value in outputs]
    assert min(on_chain) < 0
    offset = prover.artifact.layout.output_offset
    for error in (0, 10**15):
        feed = await chain.feed([*on_chain[:2], on_chain[2] + error])
        pair = DataSource(feed, (await chain.ethereum.keccak(b"firstTwo()"))[:4], 18, 13, 2)
        one = (await chain.ethereum.keccak(b"one(uint256)"))[:4] + encode(["uint256"], [2])
        attestor = await chain.attestor(
            [pair, DataSource(feed, one, 18, 13)], instance_offset=offset
        )
        calldata = encode_data_attestation_calldata(chain.verifier, answer.calldata)
        if not error:
            assert await chain.call(attestor, calldata) == TRUE
        else:
            mismatch = await chain.error("DataMismatch(uint256,int256,int256)") + f"{6:064x}"
            await chain.refuses(attestor, calldata, match=mismatch)


async def test_a_tolerance_takes_what_is_off_by_so_many_quanta(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    quantum = 10**18 // 2**13
    source = await array_source(chain, [ON_CHAIN[0] + 2 * quantum, *ON_CHAIN[1:]])
    calldata = encode_data_attestation_calldata(chain.verifier, answer.calldata)
    for tolerance, accepted in ((1, False), (2, True)):
        attestor = await chain.attestor([source], tolerance_quanta=tolerance)
        if accepted:
            assert await chain.call(attestor, calldata) == TRUE
        else:
            await chain.refuses(attestor, calldata)


@pytest.mark.parametrize("decimals", [0, 6, 18])
@pytest.mark.parametrize("value", [0, 1, -1, 123456789, -987654321, 2**100, -(2**100)])
async def test_the_contract_rounds_as_the_library_does(
    chain: Contracts, answer: ProvedAnswer, value: int, decimals: int
) -> None:
    """The contract's error tells to which integer it scaled a value that no proof has."""
    from fractions import Fraction

    from ezkl_patches import quantize

    source = await array_source(chain, [value])
    attestor = await chain.attestor(
        [DataSource(source.contract, source.calldata, decimals, 13)], instance_offset=6
    )
    calldata = encode_data_attestation_calldata(chain.verifier, answer.calldata)
    scaled = quantize(Fraction(value, 10**decimals), 13) % 2**256
    mismatch = await chain.error("DataMismatch(uint256,int256,int256)")
    await chain.refuses(attestor, calldata, match=f"{mismatch}{6:064x}{scaled:064x}")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"contract": "0x" + "11" * 20}, "NoContract(address)"),
        ({"decimals": 37}, "OutOfRange(uint256)"),
        ({"scale": 65}, "OutOfRange(uint256)"),
        ({"count": 0}, "OutOfRange(uint256)"),
    ],
)
async def test_an_attestor_that_cannot_work_is_not_deployed(
    chain: Contracts, changes: dict[str, Any], error: str
) -> None:
    source = await array_source(chain)
    values = vars(source) | changes
    with pytest.raises(EthereumError, match=await chain.error(error)):
        await chain.attestor([DataSource(**values)])


async def test_a_source_that_answers_otherwise_is_refused(
    chain: Contracts, answer: ProvedAnswer
) -> None:
    source = await array_source(chain)
    failed = await chain.error("SourceFailed(uint256)")
    calldata = encode_data_attestation_calldata(chain.verifier, answer.calldata)
    for changes in ({"count": 3}, {"calldata": b"\0\0\0\0"}):
        attestor = await chain.attestor([DataSource(**vars(source) | changes)])
        await chain.refuses(attestor, calldata, match=failed)


async def test_ezkls_own_calldata_means_the_same(chain: Contracts, answer: ProvedAnswer) -> None:
    """ezkl appends a zero word; the attestor and the verifier take that form as well."""
    theirs = answer.calldata + bytes(32)
    assert await chain.call(chain.verifier, theirs) == TRUE
    attestor = await chain.attestor([await array_source(chain)])
    calldata = encode_data_attestation_calldata(chain.verifier, theirs)
    assert await chain.call(attestor, calldata) == TRUE
    assert isinstance(answer.proof, Proof)
