"""Ask for a proved answer from a contract, with this script in the place of the node.

    python examples/proving/ask.py VERIFIER 5.1 3.5 1.4 0.2

VERIFIER is the address that deploy.py printed. docs/proving.md says what has to run before.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import httpx

from ml.testing.ethereum import Ethereum
from ml.testing.infernet_relay import Container, InfernetRelay
from ml.testing.onchain_relay import OnchainRelay

CIRCUIT = "(address,uint16,uint16,uint8,uint8,uint64,uint64)"
DECIMALS = 18
#: How far the delivered answer may be from the proved one, which is kept.
TOLERANCE = 0.001


async def main(options: argparse.Namespace) -> None:
    manifest = manifest_of(options)
    container = Container("ezkl_proof_service", options.service, generates_proofs=True)
    async with Ethereum(options.rpc) as ethereum:
        node, user, *_ = await ethereum.accounts()
        coordinator = await ethereum.deploy(code(options, "Coordinator"), "()", [], node)
        consumer = await ethereum.deploy(
            code(options, "ProofConsumer"),
            f"(address,{CIRCUIT},string,string)",
            [coordinator, circuit(manifest, options.verifier), container.id, options.artifact],
            user,
        )
        relay = OnchainRelay(InfernetRelay([container]), ethereum, coordinator, node)

        shape = manifest["inputs"][0]["shape"]
        scaled = [round(value * 10**DECIMALS) for value in options.values]
        arguments = [shape, scaled, DECIMALS]
        await ethereum.send(consumer, "ask(uint16[],int128[],uint8)", arguments, user)
        [asked] = await relay.new_subscriptions()
        await relay.answer(asked)
        types = ["int256[]", "uint8"]
        outputs, scale = await ethereum.call(consumer, "answer(uint32)", [asked], types)
        numbers = " ".join(str(output / 2**scale) for output in outputs)
        sys.stdout.write(f"proved answer {asked}: {numbers}\n")


def circuit(manifest: dict[str, Any], verifier: str) -> tuple[Any, ...]:
    """Return the Circuit of ProofConsumer, for one public input and one public output."""
    [inputs], [outputs] = manifest["inputs"], manifest["outputs"]
    counts = math.prod(inputs["shape"]), math.prod(outputs["shape"])
    # float32 rounds inputs of ±100 by up to one quantum at scale 13; larger ones by more.
    input_tolerance = 1 if inputs["dtype"] == "F32" else 0
    tolerances = input_tolerance, round(TOLERANCE * 2 ** outputs["scale"])
    return (verifier, *counts, inputs["scale"], outputs["scale"], *tolerances)


def manifest_of(options: argparse.Namespace) -> Any:
    """Return what the service says of the artifact."""
    reply = httpx.get(f"{options.service}/artifacts/{options.artifact}")
    return reply.raise_for_status().json()


def code(options: argparse.Namespace, name: str) -> bytes:
    """Return a contract's code, as ezkl_patches.solidity wrote it."""
    return bytes.fromhex((options.contracts / f"{name}.bin").read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("verifier")
    parser.add_argument("values", type=float, nargs="+")
    parser.add_argument("--rpc", default="http://127.0.0.1:8545", help="an EVM, such as anvil")
    parser.add_argument("--service", default="http://127.0.0.1:3003", help="the service's address")
    parser.add_argument("--artifact", default="iris", help="its name")
    parser.add_argument("--contracts", type=Path, default=Path("build/contracts"))
    asyncio.run(main(parser.parse_args()))
