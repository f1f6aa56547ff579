"""The relay sends what a node sends and refuses what a node would choke on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from eth_abi.abi import decode

from ml.testing.infernet_relay import Container, InfernetRelay
from ml.testing.node_reply import NotDelivered, Rule
from tests.support.processes import free_port

ONCHAIN = {
    "raw_input": "01",
    "processed_input": None,
    "raw_output": "02",
    "processed_output": "",
    "proof": "03",
}


def reply(body: Any, *, content_type: str | None = "application/json", status: int = 200) -> bytes:
    """Return a whole HTTP reply."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = f"Content-Type: {content_type}\r\n" if content_type is not None else ""
    head = f"HTTP/1.1 {status} Any\r\n{kind}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Scripted:
    """A container that answers with given bytes, and keeps the requests."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.heads: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while self.replies:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                length = next(line for line in head if line.startswith("content-length:"))
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(length.split(":")[1])))
                writer.write(self.replies.pop(0))
        writer.close()


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a relay with the one container "it", which answers with these bytes."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *replies: bytes,
            bearer: str = "",
            generates_proofs: bool = False,
            timeout_seconds: float = 20,
        ) -> Any:
            container = Scripted(*replies)
            server = await asyncio.start_server(container, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            port = server.sockets[0].getsockname()[1]
            it = Container("it", f"http://127.0.0.1:{port}", bearer, generates_proofs)
            return container, InfernetRelay([it], timeout_seconds=timeout_seconds)

        yield start


async def broken_rule(job: Any) -> Rule:
    with pytest.raises(NotDelivered) as caught:
        await job
    assert str(caught.value).startswith(caught.value.rule.value)
    return caught.value.rule


async def test_a_callback_is_sent_as_hex_with_the_nodes_headers(serve: Serve) -> None:
    container, relay = await serve(reply(ONCHAIN))
    delivery = await relay.callback(["it"], b"\xab\x01")
    assert container.bodies == [
        b'{"source": 0, "destination": 0, "data": "ab01", "requires_proof": false}'
    ]
    [head] = container.heads
    assert head[0] == "post /service_output http/1.1"
    assert {"accept: */*", "accept-encoding: gzip, deflate"} <= set(head)
    assert "content-type: application/json" in head
    assert not any(line.startswith("authorization") for line in head)
    assert decode(["bytes", "bytes"], delivery.input) == (b"\x01", b"")
    assert decode(["bytes", "bytes"], delivery.output) == (b"\x02", b"")
    assert delivery.proof == b"\x03"


async def test_the_containers_bearer_is_sent(serve: Serve) -> None:
    container, relay = await serve(reply(ONCHAIN), bearer="Sesame", generates_proofs=True)
    await relay.callback(["it"], b"", requires_proof=True)
    assert "authorization: bearer sesame" in container.heads[0]
    assert json.loads(container.bodies[0])["requires_proof"] is True
    assert json.loads(container.bodies[0])["data"] == ""


async def test_a_delegated_request_comes_from_off_chain_and_goes_on_chain(serve: Serve) -> None:
    container, relay = await serve(reply(ONCHAIN))
    await relay.delegated(["it"], {"text": "Größe"})
    assert container.bodies == [
        b'{"source": 1, "destination": 0, "data": {"text": "Gr\\u00f6\\u00dfe"}, '
        b'"requires_proof": false}'
    ]


async def test_a_chain_hands_each_reply_to_the_next_container(serve: Serve) -> None:
    error = {"code": "400", "name": "Bad Request", "description": "no"}
    replies = [reply(["any", None]), reply(error, status=400), reply(ONCHAIN)]
    container, relay = await serve(*replies)
    await relay.callback(["it", "it", "it"], b"\x01")
    sent = [json.loads(body) for body in container.bodies]
    ways = [(message["source"], message["destination"]) for message in sent]
    assert ways == [(0, 1), (1, 1), (1, 0)]
    assert [message["data"] for message in sent] == ["01", ["any", None], error]
    assert container.connections == 1


async def test_an_off_chain_chain_stays_off_chain_and_each_job_connects_anew(serve: Serve) -> None:
    container, relay = await serve(*[reply("text")] * 3)
    assert await relay.off_chain(["it", "it"], {"a": 1}) == "text"
    await relay.off_chain(["it"], None)
    sent = [json.loads(body) for body in container.bodies]
    assert all(message["source"] == message["destination"] == 1 for message in sent)
    assert container.connections == 2


async def test_every_container_of_a_chain_is_asked_for_the_proof(serve: Serve) -> None:
    container, relay = await serve(reply(1), reply(2), reply(ONCHAIN), reply([3]), reply([4]))
    await relay.callback(["it", "it", "it"], b"", requires_proof=True)
    outputs = await relay.outputs(["it", "it"], None, requires_proof=True)
    sent = [json.loads(body) for body in container.bodies]
    assert [message["requires_proof"] for message in sent] == [True] * 5
    assert [(output.container, output.output) for output in outputs] == [("it", [3]), ("it", [4])]


async def test_a_single_container_without_proofs_is_not_asked_for_one(serve: Serve) -> None:
    container, relay = await serve(reply(ONCHAIN))
    for job in (
        relay.off_chain(["it"], 1, requires_proof=True),
        relay.callback(["it"], b"", requires_proof=True),
        relay.delegated(["it"], 1, requires_proof=True),
    ):
        assert await broken_rule(job) is Rule.PROOF
    assert container.bodies == []


@pytest.mark.parametrize("content_type", ["text/plain", "text/html; charset=utf-8", None, "json"])
async def test_a_reply_that_does_not_call_itself_json_is_lost(
    serve: Serve, content_type: str | None
) -> None:
    _, relay = await serve(*[reply(ONCHAIN, content_type=content_type)] * 3)
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.CONTENT_TYPE
    assert await broken_rule(relay.delegated(["it"], "")) is Rule.CONTENT_TYPE
    assert await broken_rule(relay.off_chain(["it"], "")) is Rule.CONTENT_TYPE


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/problem+json", "Application/JSON;charset=x"]
)
async def test_every_kind_of_json_is_read(serve: Serve, content_type: str) -> None:
    content_type = content_type.replace("charset=x", "charset=utf-8")
    _, relay = await serve(reply(ONCHAIN, content_type=content_type))
    assert (await relay.callback(["it"], b"")).proof == b"\x03"


@pytest.mark.parametrize("body", [b"{", b"{'raw_input': 1}", b'{"a": "\xff"}', b"boom"])
async def test_broken_json_fails_the_job(serve: Serve, body: bytes) -> None:
    _, relay = await serve(reply(body))
    assert await broken_rule(relay.off_chain(["it"], None)) is Rule.JSON


@pytest.mark.parametrize("body", ["text", ["list"], 5, None, True, b""])
async def test_only_an_object_goes_on_chain(serve: Serve, body: Any) -> None:
    _, relay = await serve(reply(body), reply(body))
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.OBJECT
    assert await relay.off_chain(["it"], None) == (None if body == b"" else body)


@pytest.mark.parametrize("code", ["400", "500", 200, 0, False, "", []])
async def test_a_code_other_than_the_text_200_is_an_error(serve: Serve, code: Any) -> None:
    _, relay = await serve(*[reply({**ONCHAIN, "code": code})] * 2)
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.CODE
    assert (await relay.off_chain(["it"], None))["code"] == code


@pytest.mark.parametrize("code", ["200", None])
async def test_a_code_that_is_null_or_the_text_200_passes(serve: Serve, code: Any) -> None:
    _, relay = await serve(reply({**ONCHAIN, "code": code}))
    assert (await relay.callback(["it"], b"")).proof == b"\x03"


async def test_the_status_is_never_looked_at(serve: Serve) -> None:
    _, relay = await serve(reply(ONCHAIN, status=500))
    assert (await relay.callback(["it"], b"")).proof == b"\x03"


@pytest.mark.parametrize("key", list(ONCHAIN))
async def test_each_of_the_five_keys_has_to_be_there(serve: Serve, key: str) -> None:
    fields = {name: value for name, value in ONCHAIN.items() if name != key}
    _, relay = await serve(reply({**fields, "more": 1}))
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.FIVE_KEYS


@pytest.mark.parametrize("key", list(ONCHAIN))
@pytest.mark.parametrize("value", ["0x01", "012", "no", 5, ["01"]])
async def test_each_of_the_five_is_plain_hex(serve: Serve, key: str, value: Any) -> None:
    _, relay = await serve(reply({**ONCHAIN, key: value}))
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.HEX


async def test_a_container_that_breaks_off_has_not_answered(serve: Serve) -> None:
    _, relay = await serve(reply(ONCHAIN)[:-5])
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.ANSWER


async def test_a_container_that_takes_too_long_has_not_answered(serve: Serve) -> None:
    _, relay = await serve(b"", reply(ONCHAIN), timeout_seconds=0.1)
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.ANSWER


async def test_a_container_that_is_not_there_has_not_answered() -> None:
    relay = InfernetRelay([Container("it", f"http://127.0.0.1:{free_port()}")])
    assert await broken_rule(relay.callback(["it"], b"")) is Rule.ANSWER
