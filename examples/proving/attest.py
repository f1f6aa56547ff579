"""Have a contract accept a proof only while its inputs are what another contract holds.

    python examples/proving/attest.py VERIFIER 5.1 3.5 1.4 0.2

VERIFIER is the address that deploy.py printed. docs/proving.md says what has to run before.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from eth_abi.abi import encode

from ezkl_patches import (
    DataSource,
    encode_attestor_arguments,
    encode_data_attestation_calldata,
)
from ml.testing.ethereum import Ethereum, EthereumError

DECIMALS = 18


async def main(options: argparse.Namespace) -> None:
    manifest = manifest_of(options)
    [inputs] = manifest["inputs"]
    async with Ethereum(options.rpc) as ethereum:
        [account, *_] = await ethereum.accounts()
        scaled = [round(value * 10**DECIMALS) for value in options.values]
        code = contract(options, "DataFeed") + encode(["int256[]"], [scaled])
        feed = await ethereum.deploy(code, "()", [], account)

        source = DataSource(
            contract=feed,
            calldata=(await ethereum.keccak(b"all()"))[:4],
            decimals=DECIMALS,
            scale=inputs["scale"],
            count=len(scaled),
        )
        tolerance = 1 if inputs["dtype"] == "F32" else 0
        arguments = encode_attestor_arguments(
            options.verifier, [source], tolerance_quanta=tolerance
        )
        code = contract(options, "DataAttestor") + arguments
        attestor = await ethereum.deploy(code, "()", [], account)

        proved = ask(options, inputs["shape"])
        calldata = encode_data_attestation_calldata(options.verifier, proved)
        await show(ethereum, attestor, calldata, "as proved")
        await ethereum.send(feed, "set(uint256,int256)", [0, scaled[0] + 10**16], account)
        await show(ethereum, attestor, calldata, "changed by 0.01")


def ask(options: argparse.Namespace, shape: list[int]) -> bytes:
    """Return the calldata of the verifier, for the service's proof of the values."""
    values = np.reshape(options.values, shape).tolist()
    data = {"model_id": options.artifact, "dtype": "double", "values": values}
    url = f"{options.service}/service_output"
    reply = httpx.post(url, json={"source": 1, "data": data}, timeout=180)
    return bytes.fromhex(reply.raise_for_status().json()["calldata"][2:])


def manifest_of(options: argparse.Namespace) -> Any:
    """Return what the service says of the artifact."""
    reply = httpx.get(f"{options.service}/artifacts/{options.artifact}")
    return reply.raise_for_status().json()


async def show(ethereum: Ethereum, attestor: str, calldata: bytes, what: str) -> None:
    call = {"to": attestor, "data": "0x" + calldata.hex()}
    try:
        accepted = int(await ethereum.request("eth_call", call, "latest"), 16) == 1
    except EthereumError:  # it reverts with DataMismatch(instance, on chain, in the proof)
        accepted = False
    sys.stdout.write(f"{what}: {'accepted' if accepted else 'refused'}\n")


def contract(options: argparse.Namespace, name: str) -> bytes:
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
