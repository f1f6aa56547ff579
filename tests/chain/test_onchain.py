"""Contracts ask the services and get what web clients get: real services, on a real EVM."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_abi.abi import encode

from ml.testing.infernet_relay import Container, InfernetRelay
from ml.testing.node_reply import NotDelivered, Rule
from ml.testing.onchain_relay import NO_ONE, OnchainRelay, Subscription
from tests.chain.conftest import Chain
from tests.services.conftest import curls_of_readme
from tests.support.processes import ROOT, Server, clean_environment, free_port
from tests.support.workflows import Prover, Shout

CLASSIC, LLM = "classic_ml_inference_service", "llm_inference_service"
TGI = "tgi_client_inference_service"
#: Containers whose input and answer is a text, and chains of two of them.
TEXT_SERVICES = (LLM, TGI)
TEXT_CHAINS = ((LLM, LLM), (LLM, TGI))
#: A question for a chat, and a text to go on with for a bare model.
QUESTION = "The capital of France is"
VALUES: list[float] = json.loads((ROOT / "examples" / "classic_request.json").read_text())["data"][
    "values"
][0]
#: 20 kB of UTF-8, most of it outside of ASCII.
LONG = "Größe und 大きさ 🦀 " * 750
DECIMALS = 9


def environments(folder: Path, llm_url: str) -> dict[str, dict[str, str]]:
    """Return each container's environment by its name."""
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Softmax(dim=-1)).double()
    torch.save(layers, folder / "second.torch")
    local = {"model_source": "LOCAL", "model_args": {"path": str(folder / "second.torch")}}
    built_in = {"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}
    few = {"max_new_tokens": 8}
    return {
        LLM: clean_environment(FLASK_LLM_WORKFLOW_KW_ARGS=few),
        TGI: clean_environment(
            TGI_INF_WORKFLOW_POSITIONAL_ARGS=[llm_url, 5], TGI_INF_WORKFLOW_KW_ARGS=few
        ),
        CLASSIC: clean_environment(workflow_kw_args=built_in),
        "second": clean_environment(workflow_kw_args=local),
        "shout": clean_environment(workflow_class=Shout, workflow_kw_args={"ending": LONG}),
        "prover": clean_environment(workflow_class=Prover),
    }


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Container]]:
    """Start all services at once; a node knows them by these names."""
    llm_port = free_port()
    variables = environments(tmp_path_factory.mktemp("models"), f"http://127.0.0.1:{llm_port}")
    with ExitStack() as stack:
        servers = {}
        for name, environment in variables.items():
            port = llm_port if name == LLM else free_port()
            service = name if name in (LLM, TGI) else CLASSIC
            command = ["serve", service, f"--bind=127.0.0.1:{port}"]
            server = Server(command, port=port, environment=environment)
            servers[name] = stack.enter_context(server)
        yield [
            Container(name, server.wait_ready().url, generates_proofs=name == "prover")
            for name, server in servers.items()
        ]


class Parties:
    """A node between a coordinator and the services, and a user who asks through contracts."""

    def __init__(self, chain: Chain, containers: list[Container]) -> None:
        self.chain = chain
        self.ethereum = chain.ethereum
        self.relay = InfernetRelay(containers)
        self.node = OnchainRelay(self.relay, chain.ethereum, chain.coordinator, chain.node)

    async def ask(self, consumer: str, signature: str, *values: Any) -> int:
        """Ask by a transaction; returns the id that the node sees."""
        await self.ethereum.send(consumer, signature, values, self.chain.user)
        [subscription_id] = await self.node.new_subscriptions()
        return subscription_id

    async def ask_signed(self, consumer: str, ids: list[str], data: Any) -> int:
        """Ask by a signature, with JSON data; returns the id of what was delivered."""
        container_id = await self.node.container_hash(*ids)
        subscription = Subscription(consumer, int(time.time()), 0, 1, 1, container_id)
        request = await self.node.sign(
            subscription, nonce=7, expiry=int(time.time()) + 600, signer=self.chain.signer
        )
        return await self.node.answer_delegated(request, data)

    async def text(self, consumer: str, subscription_id: int) -> str:
        values = [subscription_id]
        (text,) = await self.ethereum.call(consumer, "answers(uint32)", values, ["string"])
        return str(text)

    async def tensor(self, consumer: str, subscription_id: int) -> tuple[Any, ...]:
        types = ["uint8", "uint8", "uint8", "uint16[]", "int256[]"]
        return await self.ethereum.call(consumer, "answer(uint32)", [subscription_id], types)

    async def raw_input(self, consumer: str) -> bytes:
        """Return the input that the consumer was told last."""
        logs = await self.ethereum.logs(consumer, "Answered(uint32,address,bytes)", 0)
        data = bytes.fromhex(logs[-1]["data"][2:])
        return data[64 : 64 + int.from_bytes(data[32:64])]


@pytest.fixture
def parties(containers: list[Container], chain: Chain) -> Parties:
    return Parties(chain, containers)


def bits(values: Any) -> list[int]:
    """Return float64 values as the integers of their bits."""
    numbers: list[int] = np.array(values, np.float64).reshape(-1).view(np.int64).tolist()
    return numbers


# --- tensors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[CLASSIC], [CLASSIC, "second"]], ids=["one", "chain of two"])
async def test_a_contract_gets_the_bits_that_a_web_client_gets(
    parties: Parties, ids: list[str]
) -> None:
    consumer = await parties.chain.deploy("TensorConsumer")
    signature = "askIeee(string,uint16[],int64[])"
    asked = await parties.ask(consumer, signature, ",".join(ids), [1, 69], bits([VALUES]))
    await parties.node.answer(asked)
    answer = await parties.relay.off_chain(ids, {"dtype": "double", "values": [VALUES]})
    expected = (0, 18, 2, tuple(answer["shape"]), tuple(bits(answer["values"])))
    assert await parties.tensor(consumer, asked) == expected
    assert len(expected[-1]) == (2 if len(ids) == 1 else 3)


async def test_a_contract_gets_fixed_point_numbers_for_fixed_point_numbers(
    parties: Parties,
) -> None:
    consumer = await parties.chain.deploy("TensorConsumer")
    scaled = [round(value * 10**DECIMALS) for value in VALUES]
    signature = "askFixedPoint(string,uint16[],int128[],uint8)"
    asked = await parties.ask(consumer, signature, CLASSIC, [1, 69], scaled, DECIMALS)
    await parties.node.answer(asked)
    data = {"dtype": "double", "values": [[value / 10**DECIMALS for value in scaled]]}
    answer = await parties.relay.off_chain([CLASSIC], data)
    expected = tuple(int(value * 10**DECIMALS) for value in answer["values"][0])
    assert await parties.tensor(consumer, asked) == (1, DECIMALS, 3, (1, 2), expected)
    assert sum(expected) == pytest.approx(10**DECIMALS, abs=2)


async def test_a_tensor_that_is_asked_for_by_signature_arrives_with_its_json(
    parties: Parties,
) -> None:
    consumer = await parties.chain.deploy("TensorConsumer")
    data = {"dtype": "double", "values": [VALUES]}
    asked = await parties.ask_signed(consumer, [CLASSIC], data)
    answer = await parties.relay.off_chain([CLASSIC], data)
    assert (await parties.tensor(consumer, asked))[-1] == tuple(bits(answer["values"]))
    assert json.loads(await parties.raw_input(consumer)) == data


# --- texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXT_SERVICES)
async def test_a_contract_gets_the_text_that_a_web_client_gets(parties: Parties, name: str) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", name)
    question = encode(["string"], [QUESTION])
    asked = await parties.ask(consumer, "chatWithLLM(bytes)", question)
    await parties.node.answer(asked)
    answer = await parties.text(consumer, asked)
    assert answer
    assert answer == await parties.relay.off_chain([name], {"text": QUESTION})
    assert await parties.raw_input(consumer) == question


@pytest.mark.parametrize("name", TEXT_SERVICES)
async def test_a_text_that_is_asked_for_by_signature_arrives_with_its_json(
    parties: Parties, name: str
) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", name)
    data = {"text": QUESTION, "max_new_tokens": 4}
    asked = await parties.ask_signed(consumer, [name], data)
    assert await parties.text(consumer, asked) == await parties.relay.off_chain([name], data)
    assert json.loads(await parties.raw_input(consumer)) == data
    assert await parties.node.new_subscriptions() == []


@pytest.mark.parametrize("ids", TEXT_CHAINS, ids=" then ".join)
async def test_the_text_of_one_container_is_the_question_to_the_next(
    containers: list[Container], chain: Chain, ids: tuple[str, str]
) -> None:
    # A node's containers have different names, whatever they run.
    urls = {container.id: container.url for container in containers}
    named = [Container(f"{name}_{place}", urls[name]) for place, name in enumerate(ids)]
    parties = Parties(chain, named)
    names = [container.id for container in named]
    consumer = await chain.deploy("PromptConsumer", ",".join(names))
    question = encode(["string"], [QUESTION])
    asked = await parties.ask(consumer, "chatWithLLM(bytes)", question)
    await parties.node.answer(asked)
    first = await parties.relay.off_chain(names[:1], {"text": QUESTION})
    second = await parties.relay.off_chain(names[1:], first)
    assert await parties.text(consumer, asked) == second
    assert json.loads(await parties.raw_input(consumer)) == first


async def test_twenty_kilobytes_of_unicode_arrive_whole(parties: Parties) -> None:
    assert len(LONG.encode()) >= 20_000
    consumer = await parties.chain.deploy("PromptConsumer", "shout")
    question = encode(["string"], ["é 🦀 "])
    asked = await parties.ask(consumer, "chatWithLLM(bytes)", question)
    await parties.node.answer(asked)
    assert await parties.text(consumer, asked) == "É 🦀 " + LONG
    assert await parties.raw_input(consumer) == question


async def test_an_empty_input_is_an_empty_text(parties: Parties) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", "prover")
    asked = await parties.ask(consumer, "chatWithLLM(bytes)", b"")
    await parties.node.answer(asked)
    assert await parties.text(consumer, asked) == ""


# --- proofs and errors ------------------------------------------------------------------------


async def test_a_verifier_gets_the_proof(parties: Parties) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", "prover")
    verifier = parties.chain.user
    question = encode(["string"], ["two"])
    asked = await parties.ask(consumer, "ask(string,bytes,address)", "prover", question, verifier)
    delivery = await parties.node.answer(asked)
    proof = await parties.ethereum.call(consumer, "proofs(uint32)", [asked], ["bytes"])
    assert proof == (delivery.proof,) == (b"two->TWO",)
    without = await parties.ask(consumer, "ask(string,bytes,address)", "prover", question, NO_ONE)
    assert (await parties.node.answer(without)).proof == b""


async def assert_nothing_arrives(
    parties: Parties, subscription_id: int, rule: Rule = Rule.CODE
) -> str:
    block = await parties.ethereum.request("eth_blockNumber")
    with pytest.raises(NotDelivered) as caught:
        await parties.node.answer(subscription_id)
    assert caught.value.rule is rule
    assert await parties.ethereum.request("eth_blockNumber") == block
    return caught.value.description


async def test_an_error_is_not_delivered(parties: Parties) -> None:
    consumer = await parties.chain.deploy("TensorConsumer")
    signature = "askIeee(string,uint16[],int64[])"
    asked = await parties.ask(consumer, signature, CLASSIC, [1, 2], bits([1.0, 2.0]))
    assert "expected a last dimension of 69" in await assert_nothing_arrives(parties, asked)
    assert (await parties.tensor(consumer, asked))[-1] == ()


async def test_an_error_inside_a_chain_is_not_delivered(parties: Parties) -> None:
    consumer = await parties.chain.deploy("TensorConsumer")
    signature = "askIeee(string,uint16[],int64[])"
    ids = f"{CLASSIC},second"
    asked = await parties.ask(consumer, signature, ids, [1, 2], bits([1.0, 2.0]))
    # The second container gets the first one's error as its data, and passes it on.
    described = await assert_nothing_arrives(parties, asked)
    assert "the container before this one refused: values: expected a last" in described


async def test_bytes_that_are_no_request_are_not_answered(parties: Parties) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", LLM)
    for question in (b"\x01", encode(["string"], [""]), encode(["bytes"], [b"\xff"])):
        asked = await parties.ask(consumer, "chatWithLLM(bytes)", question)
        await assert_nothing_arrives(parties, asked)


@pytest.mark.parametrize(
    ("ids", "data"),
    [
        ([CLASSIC, "second"], {"dtype": "double", "values": [VALUES]}),
        ([LLM, TGI], {"text": QUESTION}),
        ([LLM, "prover"], {"text": QUESTION}),
    ],
    ids=" then ".join,
)
async def test_a_chain_that_requires_a_proof_is_answered_whether_or_not_its_hops_make_one(
    parties: Parties, ids: list[str], data: Any
) -> None:
    plain = await parties.relay.outputs(ids, data)
    proved = await parties.relay.outputs(ids, data, requires_proof=True)
    assert [output.container for output in proved] == ids
    assert proved[0] == plain[0]
    if ids[-1] == "prover":
        assert proved[1].output["output"] == plain[1].output
        assert proved[1].output["proof"].startswith("0x")
    else:
        assert proved[1] == plain[1]


async def test_a_contract_gets_the_proof_of_the_last_hop_of_a_chain(parties: Parties) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", "prover")
    question = encode(["string"], [QUESTION])
    verifier, ids = parties.chain.user, f"{LLM},prover"
    asked = await parties.ask(consumer, "ask(string,bytes,address)", ids, question, verifier)
    delivery = await parties.node.answer(asked)
    first = await parties.relay.off_chain([LLM], {"text": QUESTION})
    assert delivery.proof == f"{first}->{first.upper()}".encode()
    assert await parties.text(consumer, asked) == first.upper()


async def test_a_proof_that_a_service_cannot_make_is_refused(
    parties: Parties, containers: list[Container]
) -> None:
    consumer = await parties.chain.deploy("PromptConsumer", LLM)
    question = encode(["string"], [QUESTION])
    verifier = parties.chain.user
    asked = await parties.ask(consumer, "ask(string,bytes,address)", LLM, question, verifier)
    assert LLM in await assert_nothing_arrives(parties, asked, Rule.PROOF)
    # The config of the node says otherwise.
    [container] = [one for one in containers if one.id == LLM]
    claimed = Parties(parties.chain, [replace(container, generates_proofs=True)])
    assert "makes no proofs" in await assert_nothing_arrives(claimed, asked)


# --- the document -----------------------------------------------------------------------------


def test_the_commands_of_the_document_answer_a_callback(
    containers: list[Container], anvil: str, tmp_path: Path
) -> None:
    document = (ROOT / "docs" / "infernet.md").read_text()
    lines = re.findall(
        r"^(?:tests/chain/\S+solcjs|python examples/callback.py) .*", document, re.MULTILINE
    )
    assert len(lines) == 2
    compiled = tmp_path / "contracts"
    urls = {container.id: container.url for container in containers}
    command = (
        " && ".join(lines).replace("build/contracts", str(compiled))
        + f" --contracts={compiled} --rpc={anvil} --service={urls[LLM]}"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=clean_environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0, ran.stderr
    first, second = re.findall(r"^(?:callback 1|delegated 2): (.+)$", ran.stdout, re.MULTILINE)
    assert first == second


def test_the_curl_of_the_document_to_a_service_is_answered(containers: list[Container]) -> None:
    [url] = [container.url for container in containers if container.id == LLM]
    commands = curls_of_readme(ROOT / "docs" / "infernet.md", url)
    [command] = [command for command in commands if "/service_output" in command]
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    assert json.loads(ran.stdout)
