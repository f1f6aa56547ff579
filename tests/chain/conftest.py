"""An EVM, the example contracts on it, and a node's place between it and the services."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ezkl_patches.solidity import compile_solidity
from ml.testing.ethereum import Ethereum
from tests.support.processes import ROOT, Server, clean_environment, free_port, until

CONTRACTS = ROOT / "examples" / "contracts"
PACKAGES = Path(__file__).parent / "node_modules"
#: What solc remarks on the verifiers that ezkl generates.
ACCEPTED = (
    "Function state mutability can be restricted to view",
    "Unused function parameter. Remove or comment out the variable name to silence this warning.",
)


def installed(pattern: str) -> Path:
    """Return the one file of the npm packages that matches."""
    for path in PACKAGES.glob(pattern):
        return path
    pytest.fail("the npm packages of tests/chain are missing: `make test` installs them")


def compiler() -> list[str]:
    """Return the command of the compiler that package.json names."""
    return ["node", str(installed("solc/solc.js"))]


def compiled(sources: dict[str, str]) -> dict[str, bytes]:
    """Return the code of each contract in Solidity sources by its name."""
    done = compile_solidity(sources, compiler())
    assert [text for text in done.warnings if not any(known in text for known in ACCEPTED)] == []
    return {name: contract.code for name, contract in done.contracts.items()}


@pytest.fixture(scope="session")
def contracts() -> dict[str, bytes]:
    """Return the code of each example contract by its name."""
    return compiled({path.name: path.read_text() for path in CONTRACTS.glob("*.sol")})


@pytest.fixture(scope="module")
def anvil() -> Iterator[str]:
    """Return the address of an EVM that mines a block for each transaction."""
    port = free_port()
    command = [
        str(installed("@foundry-rs/anvil-*/bin/anvil*")),
        "--host=127.0.0.1",
        f"--port={port}",
        "--accounts=4",
        "--silent",
    ]
    with Server(command, port=port, environment=clean_environment()) as server:
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
        until(lambda: httpx.post(server.url, json=body).is_success, "anvil answers")
        yield server.url


@dataclass(frozen=True)
class Chain:
    """A fresh coordinator on the EVM, with accounts that have their parts."""

    ethereum: Ethereum
    contracts: dict[str, bytes]
    coordinator: str
    node: str
    user: str
    signer: str

    async def deploy(self, name: str, *values: str) -> str:
        """Return the address of a new consumer; its signer is `signer`."""
        types = ",".join(["address", "address", *["string"] * len(values)])
        arguments = [self.coordinator, self.signer, *values]
        return await self.ethereum.deploy(self.contracts[name], f"({types})", arguments, self.user)


@pytest.fixture
async def chain(anvil: str, contracts: dict[str, bytes]) -> AsyncIterator[Chain]:
    async with contextlib.AsyncExitStack() as stack:
        ethereum = await stack.enter_async_context(Ethereum(anvil))
        node, user, signer, _ = await ethereum.accounts()
        coordinator = await ethereum.deploy(contracts["Coordinator"], "()", [], node)
        yield Chain(ethereum, contracts, coordinator, node, user, signer)
