"""The example contracts: who may do what, and what a consumer reads."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from ml.testing.ethereum import EthereumError
from ml.testing.infernet_relay import InfernetRelay
from ml.testing.onchain_relay import NO_ONE, DelegatedRequest, OnchainRelay, Subscription
from tests.chain.conftest import CONTRACTS, Chain

DELIVER = "deliverCompute(uint32,uint32,bytes,bytes,bytes,address)"
CREATE = (
    "createSubscriptionDelegatee(uint32,uint32,(address,uint32,uint32,uint32,uint16,bytes32,bool,"
    "address,uint256,address,address),uint8,bytes32,bytes32)"
)


def pair(raw: bytes) -> bytes:
    return encode(["bytes", "bytes"], [raw, b""])


def text(answer: str) -> bytes:
    return pair(encode(["string"], [answer]))


async def ask(chain: Chain, consumer: str) -> None:
    question = encode(["string"], ["Why?"])
    await chain.ethereum.send(consumer, "chatWithLLM(bytes)", [question], chain.user)


async def deliver(chain: Chain, output: bytes, *, sender: str | None = None) -> None:
    values = [1, 1, pair(b""), output, b"", NO_ONE]
    await chain.ethereum.send(chain.coordinator, DELIVER, values, sender or chain.node)


async def error_selector(chain: Chain, error: str) -> str:
    return "0x" + (await chain.ethereum.keccak(f"{error}()".encode()))[:4].hex()


def relay(chain: Chain) -> OnchainRelay:
    return OnchainRelay(InfernetRelay([]), chain.ethereum, chain.coordinator, chain.node)


async def signed(
    chain: Chain, consumer: str, signer: str, *, seconds: int = 60, redundancy: int = 1
) -> DelegatedRequest:
    subscription = Subscription(consumer, 0, 0, 1, redundancy, bytes(32))
    expiry = int(time.time()) + seconds
    return await relay(chain).sign(subscription, nonce=1, expiry=expiry, signer=signer)


async def create(chain: Chain, request: DelegatedRequest) -> None:
    sub, sign = request.subscription, request.signature
    struct = tuple(getattr(sub, name) for name in sub.__dataclass_fields__)
    values = [request.nonce, request.expiry, struct, sign[64], sign[:32], sign[32:64]]
    await chain.ethereum.send(chain.coordinator, CREATE, values, chain.node)


async def test_a_consumer_takes_answers_from_its_coordinator_alone(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    signature = "rawReceiveCompute(uint32,uint32,uint16,address,bytes,bytes,bytes,bytes32,uint256)"
    values = [1, 1, 1, chain.user, pair(b""), text("forged"), b"", bytes(32), 0]
    with pytest.raises(EthereumError, match=await error_selector(chain, "NotCoordinator")):
        await chain.ethereum.send(consumer, signature, values, chain.user)


async def test_a_request_is_answered_as_often_as_asked(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    with pytest.raises(EthereumError, match=await error_selector(chain, "SubscriptionNotFound")):
        await deliver(chain, text("too early"))
    await ask(chain, consumer)
    await deliver(chain, text("first"))
    with pytest.raises(EthereumError, match=await error_selector(chain, "IntervalCompleted")):
        await deliver(chain, text("second"), sender=chain.user)
    answer = await chain.ethereum.call(consumer, "answers(uint32)", [1], ["string"])
    assert answer == ("first",)


async def test_of_several_answers_each_comes_from_another_node(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    await create(chain, await signed(chain, consumer, chain.signer, redundancy=2))
    await deliver(chain, text("first"))
    with pytest.raises(EthereumError, match=await error_selector(chain, "NodeRespondedAlready")):
        await deliver(chain, text("again"))
    await deliver(chain, text("second"), sender=chain.user)
    answer = await chain.ethereum.call(consumer, "answers(uint32)", [1], ["string"])
    assert answer == ("second",)


async def test_an_output_that_is_not_what_the_consumer_reads_is_reverted(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    await ask(chain, consumer)
    with pytest.raises(EthereumError, match="revert"):
        await deliver(chain, pair(b"no abi"))
    # What the node delivers for an object without the five keys: the text of a Python dict.
    with pytest.raises(EthereumError, match="revert"):
        await deliver(chain, encode(["string"], ["{'error': 'boom'}"]))


async def test_the_stand_in_refuses_what_it_does_not_do(chain: Chain) -> None:
    signature = (
        "createSubscription(string,uint32,uint32,uint16,bool,address,uint256,address,address)"
    )
    callback = ["llm", 1, 0, 1, False, NO_ONE, 0, NO_ONE, NO_ONE]
    for position, value in ((1, 2), (2, 60), (4, True), (6, 1)):
        other = [*callback[:position], value, *callback[position + 1 :]]
        error = await error_selector(chain, "OnlyCallbacksWithoutPayment")
        with pytest.raises(EthereumError, match=error):
            await chain.ethereum.send(chain.coordinator, signature, other, chain.user)
    await chain.ethereum.send(chain.coordinator, signature, callback, chain.user)


async def test_a_signed_request_counts_once(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    request = await signed(chain, consumer, chain.signer)
    await create(chain, request)
    await create(chain, request)
    assert await relay(chain).new_subscriptions() == [1]


async def test_only_the_consumers_signer_can_sign_for_it(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    request = await signed(chain, consumer, chain.user)
    with pytest.raises(EthereumError, match=await error_selector(chain, "SignerMismatch")):
        await create(chain, request)


async def test_a_changed_or_expired_request_is_refused(chain: Chain) -> None:
    consumer = await chain.deploy("PromptConsumer", "llm")
    request = await signed(chain, consumer, chain.signer)
    changed = replace(request, subscription=replace(request.subscription, redundancy=9))
    with pytest.raises(EthereumError, match=await error_selector(chain, "SignerMismatch")):
        await create(chain, changed)
    expired = await signed(chain, consumer, chain.signer, seconds=-60)
    with pytest.raises(EthereumError, match=await error_selector(chain, "SignatureExpired")):
        await create(chain, expired)


def test_every_contract_says_its_licence_and_version() -> None:
    for path in CONTRACTS.glob("*.sol"):
        lines = path.read_text().splitlines()
        assert lines[0] == "// SPDX-License-Identifier: MIT"
        assert re.match(r"pragma solidity \^0\.8\.20;", lines[1])
