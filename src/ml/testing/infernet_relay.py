"""Plays the Infernet node towards its containers: its messages, and its rules for the replies.

    relay = InfernetRelay([Container("llm_inference_service", "http://127.0.0.1:4999")])
    delivery = await relay.callback(["llm_inference_service"], encode_text("Is the sky blue?"))

`ml.testing.onchain_relay` does so for the requests of contracts.

Source: the behaviour of the public Infernet Node 1.4.0.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ml.infernet.message import InfernetInputSource, JobLocation
from ml.testing.node_reply import Delivery, NotDelivered, Rule, read_reply, to_delivery

__all__ = ["Container", "ContainerOutput", "InfernetRelay"]


@dataclass(frozen=True, slots=True)
class Container:
    """One of the node's containers.

    Attributes:
        id: the name that requests give.
        url: where it listens.
        bearer: sent as a key; none if empty.
        generates_proofs: whether jobs of this container alone may require a proof.
    """

    id: str
    url: str
    bearer: str = ""
    generates_proofs: bool = False


@dataclass(frozen=True, slots=True)
class ContainerOutput:
    """What one container of a job answered: any JSON, also an error's body."""

    container: str
    output: Any


class InfernetRelay:
    """Runs jobs on containers as a node does: one after the other, each new job anew connected.

    Of several containers each gets the reply of the one before, an error's body too, and each is
    asked for a proof if the job requires one.
    """

    def __init__(self, containers: Iterable[Container], *, timeout_seconds: float = 180) -> None:
        self._containers = {container.id: container for container in containers}
        self._timeout_seconds = timeout_seconds

    @property
    def container_ids(self) -> list[str]:
        """The ids of all containers."""
        return list(self._containers)

    async def off_chain(
        self, ids: Sequence[str], data: Any, *, requires_proof: bool = False
    ) -> Any:
        """Return what a web client's job gets as its output: any JSON, also an error's body.

        Raises:
            NotDelivered: rule PROOF, ANSWER, CONTENT_TYPE or JSON.
        """
        return (await self.outputs(ids, data, requires_proof=requires_proof))[-1].output

    async def outputs(
        self, ids: Sequence[str], data: Any, *, requires_proof: bool = False
    ) -> list[ContainerOutput]:
        """Return what each container of a web client's job answered.

        The last is the job's result; a node tells the others to who asks with `intermediate`.

        Raises:
            NotDelivered: as `off_chain`.
        """
        source, destination = InfernetInputSource.OFFCHAIN, JobLocation.OFFCHAIN
        return await self._run(ids, source, destination, data, requires_proof)

    async def callback(
        self, ids: Sequence[str], data: bytes, *, requires_proof: bool = False
    ) -> Delivery:
        """Return what a contract gets for the input that it has.

        Raises:
            NotDelivered: for every other reply than one that arrives.
        """
        source, destination = InfernetInputSource.CHAIN, JobLocation.ONCHAIN
        outputs = await self._run(ids, source, destination, data.hex(), requires_proof)
        return to_delivery(outputs[-1].output)

    async def delegated(
        self, ids: Sequence[str], data: Any, *, requires_proof: bool = False
    ) -> Delivery:
        """Return what a contract gets for JSON data that came with a signature.

        Raises:
            NotDelivered: for every other reply than one that arrives.
        """
        source, destination = InfernetInputSource.OFFCHAIN, JobLocation.ONCHAIN
        outputs = await self._run(ids, source, destination, data, requires_proof)
        return to_delivery(outputs[-1].output)

    async def _run(
        self,
        ids: Sequence[str],
        source: InfernetInputSource,
        destination: JobLocation,
        data: Any,
        requires_proof: bool,
    ) -> list[ContainerOutput]:
        if requires_proof and len(ids) == 1 and not self._containers[ids[0]].generates_proofs:
            raise NotDelivered(Rule.PROOF, f"{ids[0]}: its config lacks generates_proofs")
        outputs: list[ContainerOutput] = []
        async with httpx.AsyncClient(
            timeout=self._timeout_seconds, follow_redirects=True, trust_env=False
        ) as http:
            for position, name in enumerate(ids):
                is_last = position == len(ids) - 1
                message = {
                    "source": int(source),
                    "destination": int(destination if is_last else JobLocation.OFFCHAIN),
                    "data": data,
                    "requires_proof": requires_proof,
                }
                data = await self._ask(http, self._containers[name], message)
                outputs.append(ContainerOutput(name, data))
                source = InfernetInputSource.OFFCHAIN
        return outputs

    async def _ask(
        self, http: httpx.AsyncClient, container: Container, message: dict[str, Any]
    ) -> Any:
        headers = {
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Accept-Encoding": "gzip, deflate",
        }
        if container.bearer:
            headers["Authorization"] = f"Bearer {container.bearer}"
        url = f"{container.url}/service_output"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reply = await http.post(url, content=json.dumps(message), headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            limit = f"within {self._timeout_seconds:g} seconds"
            raise NotDelivered(Rule.ANSWER, f"{container.id}: none {limit}") from None
        except httpx.HTTPError as error:
            fault = f"{type(error).__name__}: {error}"
            raise NotDelivered(Rule.ANSWER, f"{container.id}: {fault}") from error
        return read_reply(reply.headers.get("content-type", ""), reply.content)
