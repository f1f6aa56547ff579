"""Ask a text service from a contract, with this script in the place of the node.

    python examples/callback.py "Is the sky blue during a clear day?"

asks once by a transaction and once by a signature. docs/infernet.md says what has to run before.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from eth_abi.abi import encode

from ml.testing.ethereum import Ethereum
from ml.testing.infernet_relay import Container, InfernetRelay
from ml.testing.onchain_relay import OnchainRelay, Subscription


async def main(options: argparse.Namespace) -> None:
    container = Container(options.container, options.service)
    async with Ethereum(options.rpc) as ethereum:
        node, user, signer = (await ethereum.accounts())[:3]
        coordinator = await ethereum.deploy(code(options, "Coordinator"), "()", [], node)
        consumer = await ethereum.deploy(
            code(options, "PromptConsumer"),
            "(address,address,string)",
            [coordinator, signer, container.id],
            user,
        )
        relay = OnchainRelay(InfernetRelay([container]), ethereum, coordinator, node)

        question = encode(["string"], [options.question])
        await ethereum.send(consumer, "chatWithLLM(bytes)", [question], user)
        [asked] = await relay.new_subscriptions()
        await relay.answer(asked)
        await show(ethereum, consumer, "callback", asked)

        subscription = Subscription(
            owner=consumer,
            activeAt=int(time.time()),
            period=0,
            frequency=1,
            redundancy=1,
            containerId=await relay.container_hash(container.id),
        )
        expiry = int(time.time()) + 600
        request = await relay.sign(subscription, nonce=1, expiry=expiry, signer=signer)
        asked = await relay.answer_delegated(request, {"text": options.question})
        await show(ethereum, consumer, "delegated", asked)


def code(options: argparse.Namespace, name: str) -> bytes:
    """Return a contract's code, as solcjs wrote it."""
    return bytes.fromhex((options.contracts / f"{name}_sol_{name}.bin").read_text())


async def show(ethereum: Ethereum, consumer: str, way: str, asked: int) -> None:
    (answer,) = await ethereum.call(consumer, "answers(uint32)", [asked], ["string"])
    sys.stdout.write(f"{way} {asked}: {answer}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--rpc", default="http://127.0.0.1:8545", help="an EVM, such as anvil")
    parser.add_argument("--service", default="http://127.0.0.1:4999", help="the service's address")
    parser.add_argument("--container", default="llm_inference_service", help="its id on the node")
    parser.add_argument("--contracts", type=Path, default=Path("build/contracts"))
    asyncio.run(main(parser.parse_args()))
