"""Plays the Infernet node towards its chain: takes contracts' requests and delivers the answers.

Source: the public Infernet SDK 1.x, its coordinator's functions and EIP-712 types, which
`examples/contracts/Coordinator.sol` stands in for.
"""

from __future__ import annotations

import itertools
from dataclasses import astuple, dataclass, fields
from typing import Any

from eth_abi.abi import encode

from ml.testing.ethereum import Ethereum
from ml.testing.infernet_relay import InfernetRelay
from ml.testing.node_reply import Delivery

__all__ = ["NO_ONE", "DelegatedRequest", "OnchainRelay", "Subscription"]

#: The zero address: no verifier, no token, no wallet.
NO_ONE = "0x" + 40 * "0"
#: A callback has only this one.
_INTERVAL = 1


@dataclass(frozen=True, slots=True)
class Subscription:
    """A contract's wish for compute, in the order of the SDK's struct; a callback by default.

    Attributes:
        owner: the consumer's address.
        containerId: keccak256(abi.encode("first,second")).
        verifier: not `NO_ONE` if containers shall make a proof.
    """

    # The names are those of the signed EIP-712 type.
    owner: str
    activeAt: int  # noqa: N815
    period: int
    frequency: int
    redundancy: int
    containerId: bytes  # noqa: N815
    lazy: bool = False
    verifier: str = NO_ONE
    paymentAmount: int = 0  # noqa: N815
    paymentToken: str = NO_ONE  # noqa: N815
    wallet: str = NO_ONE


_STRUCT = (
    "address", "uint32", "uint32", "uint32", "uint16", "bytes32",
    "bool", "address", "uint256", "address", "address",
)  # fmt: skip
_TUPLE = f"({','.join(_STRUCT)})"


@dataclass(frozen=True, slots=True)
class DelegatedRequest:
    """A subscription that its consumer's signer signed off-chain.

    Attributes:
        nonce: of the consumer; each makes one subscription.
        expiry: UNIX time in seconds, until when the signature counts.
        signature: 65 bytes: r, s, v.
    """

    subscription: Subscription
    nonce: int
    expiry: int
    signature: bytes


class OnchainRelay:
    """Answers the callbacks of a coordinator with a relay's containers; `account` pays the gas."""

    def __init__(
        self, relay: InfernetRelay, ethereum: Ethereum, coordinator: str, account: str
    ) -> None:
        self._relay = relay
        self._ethereum = ethereum
        self._coordinator = coordinator
        self._account = account
        self._next_block = 0
        self._delegated: set[int] = set()
        self._hashes: dict[tuple[str, ...], bytes] = {}

    async def new_subscriptions(self) -> list[int]:
        """Return the ids of the subscriptions that contracts made since the last call."""
        event = "SubscriptionCreated(uint32)"
        logs = await self._ethereum.logs(self._coordinator, event, self._next_block)
        if logs:
            self._next_block = int(logs[-1]["blockNumber"], 16) + 1
        ids = [int(log["topics"][1], 16) for log in logs]
        return [id_ for id_ in ids if id_ not in self._delegated]

    async def answer(self, subscription_id: int) -> Delivery:
        """Ask the containers of a subscription and deliver what they answer.

        Raises:
            NotDelivered: nothing went on-chain, by the rule that it names.
            EthereumError: the coordinator or the consumer refused the delivery.
            LookupError: it is for containers that are not here.
        """
        subscription = await self._subscription(subscription_id)
        (data,) = await self._ethereum.call(
            subscription.owner,
            "getContainerInputs(uint32,uint32,uint32,address)",
            [subscription_id, _INTERVAL, subscription.activeAt, self._account],
            ["bytes"],
        )
        delivery = await self._relay.callback(
            await self._containers(subscription),
            data,
            requires_proof=subscription.verifier != NO_ONE,
        )
        await self._deliver(subscription_id, delivery)
        return delivery

    async def answer_delegated(self, request: DelegatedRequest, data: Any) -> int:
        """Ask with JSON data, create the signed subscription and deliver; returns its id.

        The node does the last two in one transaction, `deliverComputeDelegatee`.

        Raises:
            As `answer`.
        """
        subscription = request.subscription
        delivery = await self._relay.delegated(
            await self._containers(subscription),
            data,
            requires_proof=subscription.verifier != NO_ONE,
        )
        r, s, v = request.signature[:32], request.signature[32:64], request.signature[64]
        signature = f"createSubscriptionDelegatee(uint32,uint32,{_TUPLE},uint8,bytes32,bytes32)"
        values = [request.nonce, request.expiry, astuple(subscription), v, r, s]
        await self._ethereum.send(self._coordinator, signature, values, self._account)
        # It returns the id again for what exists, which a call can read and a transaction cannot.
        coordinator = self._coordinator
        answer = await self._ethereum.call(coordinator, signature, values, ["uint32"])
        subscription_id: int = answer[0]
        self._delegated.add(subscription_id)
        await self._deliver(subscription_id, delivery)
        return subscription_id

    async def container_hash(self, *ids: str) -> bytes:
        """Return how a subscription names containers."""
        return await self._ethereum.keccak(encode(["string"], [",".join(ids)]))

    async def sign(
        self, subscription: Subscription, *, nonce: int, expiry: int, signer: str
    ) -> DelegatedRequest:
        """Return a request that one of the EVM's own accounts signed (EIP-712)."""
        names = [field.name for field in fields(Subscription)]
        message = dict(zip(names, astuple(subscription), strict=True))
        message["containerId"] = "0x" + subscription.containerId.hex()
        document = {
            "domain": {
                "name": "InfernetCoordinator",
                "version": "1",
                "chainId": int(await self._ethereum.request("eth_chainId"), 16),
                "verifyingContract": self._coordinator,
            },
            "types": {
                "EIP712Domain": _members(
                    name="string", version="string", chainId="uint256", verifyingContract="address"
                ),
                "DelegateSubscription": _members(
                    nonce="uint32", expiry="uint32", sub="Subscription"
                ),
                "Subscription": _members(**dict(zip(names, _STRUCT, strict=True))),
            },
            "primaryType": "DelegateSubscription",
            "message": {"nonce": nonce, "expiry": expiry, "sub": message},
        }
        signature = await self._ethereum.request("eth_signTypedData_v4", signer, document)
        return DelegatedRequest(subscription, nonce, expiry, bytes.fromhex(signature[2:]))

    async def _subscription(self, subscription_id: int) -> Subscription:
        (values,) = await self._ethereum.call(
            self._coordinator, "getSubscription(uint32)", [subscription_id], [_TUPLE]
        )
        return Subscription(*values)

    async def _containers(self, subscription: Subscription) -> tuple[str, ...]:
        """Return the containers of a subscription, which names them by a hash."""
        known = self._relay.container_ids
        for count in range(1, len(known) + 1):
            for ids in itertools.permutations(known, count):
                if ids not in self._hashes:
                    self._hashes[ids] = await self.container_hash(*ids)
                if self._hashes[ids] == subscription.containerId:
                    return ids
        raise LookupError(f"no containers of {known} have id {subscription.containerId.hex()}")

    async def _deliver(self, subscription_id: int, delivery: Delivery) -> None:
        await self._ethereum.send(
            self._coordinator,
            "deliverCompute(uint32,uint32,bytes,bytes,bytes,address)",
            [
                subscription_id,
                _INTERVAL,
                delivery.input,
                delivery.output,
                delivery.proof,
                NO_ONE,
            ],
            self._account,
        )


def _members(**types: str) -> list[dict[str, str]]:
    return [{"name": name, "type": type_} for name, type_ in types.items()]
