"""An EVM, the example contracts on it, and a node's place between it and the services."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

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


def compiled(sources: dict[str, str], folder: Path) -> dict[str, bytes]:
    """Return the code of each contract in Solidity sources by its name."""
    request = {
        "language": "Solidity",
        "sources": {name: {"content": source} for name, source in sources.items()},
        "settings": {
            "optimizer": {"enabled": True},
            "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
        },
    }
    # By files, because solc neither waits for all of a pipe's input nor until a pipe took it all.
    (folder / "request.json").write_text(json.dumps(request))
    command = ["node", installed("solc/solc.js"), "--standard-json"]
    with (folder / "request.json").open() as stdin, (folder / "output").open("w") as stdout:
        subprocess.run(command, stdin=stdin, stdout=stdout, check=True, timeout=90)
    text = (folder / "output").read_text()
    output = json.loads(text[text.index("{") :])
    faults = [fault["message"] for fault in output.get("errors", [])]
    assert [fault for fault in faults if fault not in ACCEPTED] == []
    return {
        name: bytes.fromhex(contract["evm"]["bytecode"]["object"])
        for file in output["contracts"].values()
        for name, contract in file.items()
    }


@pytest.fixture(scope="session")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the code of each example contract by its name."""
    sources = {path.name: path.read_text() for path in CONTRACTS.glob("*.sol")}
    return compiled(sources, tmp_path_factory.mktemp("solc"))


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
