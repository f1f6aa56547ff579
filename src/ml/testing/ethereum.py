"""An EVM by its JSON-RPC, with accounts that it signs for itself, such as anvil's.

ethereum = Ethereum("http://127.0.0.1:8545")
(text,) = await ethereum.call(consumer, "answers(uint32)", [1], ["string"])
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Self

import httpx
from eth_abi.abi import decode, encode
from eth_abi.grammar import TupleType, parse

__all__ = ["Ethereum", "EthereumError"]

_MINED_WITHIN_SECONDS = 60


class EthereumError(Exception):
    """The EVM refused a call, or a transaction was reverted."""


class Ethereum:
    """Calls contracts by their signatures, as `ask(string,bytes)`; a struct is `(address,uint32)`.

    Addresses are 0x-hex strings, `bytes` are bytes, structs are tuples. Every method raises
    `EthereumError` for what the EVM refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(timeout=60, trust_env=False)
        self._numbers = itertools.count(1)

    async def request(self, method: str, *parameters: Any) -> Any:
        """Return the result of a JSON-RPC method."""
        body = {
            "jsonrpc": "2.0",
            "id": next(self._numbers),
            "method": method,
            "params": parameters,
        }
        reply = (await self._http.post(self.url, json=body)).json()
        if "error" in reply:
            error = reply["error"]
            raise EthereumError(f"{method}: {error['message']} {error.get('data') or ''}".strip())
        return reply["result"]

    async def accounts(self) -> list[str]:
        """Return the accounts that it signs for."""
        accounts: list[str] = await self.request("eth_accounts")
        return accounts

    async def keccak(self, data: bytes) -> bytes:
        """Return the 32 bytes of keccak256."""
        return bytes.fromhex((await self.request("web3_sha3", _hex(data)))[2:])

    async def deploy(self, code: bytes, signature: str, values: Sequence[Any], sender: str) -> str:
        """Return the address of a new contract; the signature is its constructor's: `(address)`."""
        data = code + encode(_types(signature), values)
        receipt = await self.transact({"from": sender, "data": _hex(data)})
        address: str = receipt["contractAddress"]
        return address

    async def call(
        self, contract: str, signature: str, values: Sequence[Any], returns: Sequence[str]
    ) -> tuple[Any, ...]:
        """Return what a view function returns, by its types."""
        data = await self._call_data(signature, values)
        result = await self.request("eth_call", {"to": contract, "data": _hex(data)}, "latest")
        return decode(returns, bytes.fromhex(result[2:]))

    async def send(
        self, contract: str, signature: str, values: Sequence[Any], sender: str
    ) -> dict[str, Any]:
        """Return the receipt of a transaction that calls a function."""
        data = await self._call_data(signature, values)
        return await self.transact({"from": sender, "to": contract, "data": _hex(data)})

    async def transact(self, transaction: dict[str, str]) -> dict[str, Any]:
        """Return the receipt of a transaction, of the form that `eth_sendTransaction` takes."""
        # The estimate runs it, so that what would be reverted says why and costs nothing.
        gas = await self.request("eth_estimateGas", transaction)
        number = await self.request("eth_sendTransaction", {**transaction, "gas": gas})
        async with asyncio.timeout(_MINED_WITHIN_SECONDS):
            while (receipt := await self._receipt(number)) is None:  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.01)
        if receipt["status"] != "0x1":
            raise EthereumError(f"the transaction {number} failed")
        return receipt

    async def logs(self, contract: str, event: str, from_block: int) -> list[dict[str, Any]]:
        """Return a contract's logs of an event, `SubscriptionCreated(uint32)`, oldest first."""
        topic = _hex(await self.keccak(event.encode()))
        query = {"address": contract, "topics": [topic], "fromBlock": hex(from_block)}
        logs: list[dict[str, Any]] = await self.request("eth_getLogs", query)
        return logs

    async def _call_data(self, signature: str, values: Sequence[Any]) -> bytes:
        selector = (await self.keccak(signature.encode()))[:4]
        return selector + encode(_types(signature), values)

    async def _receipt(self, number: str) -> dict[str, Any] | None:
        receipt: dict[str, Any] | None = await self.request("eth_getTransactionReceipt", number)
        return receipt

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()


def _types(signature: str) -> list[str]:
    arguments = signature[signature.index("(") :]
    if arguments == "()":
        return []
    parsed = parse(arguments)
    if not isinstance(parsed, TupleType):
        raise ValueError(f"no signature: {signature}")
    return [component.to_type_str() for component in parsed.components]


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
