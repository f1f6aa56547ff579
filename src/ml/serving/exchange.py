"""One request's body and reply, read from its client and sent to it within limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from ml.errors import BodyTimeout, InvalidInput, PayloadTooLarge
from ml.serving.endpoint import Headers
from ml.serving.intake import Arriving, Intake
from ml.serving.reply import Reply

__all__ = ["ClientStalled", "Exchange", "Receive", "Send"]

log = structlog.get_logger(__name__)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: A body up to this size is read before its request is refused, so that the connection is kept.
_SMALL_BODY_BYTES = 64 * 1024
_SMALL_BODY_SECONDS = 0.5
#: What a client goes on sending behind a refusal is read and dropped, for so long: a connection
#: that is closed over unread bytes is reset, and its client may never see the answer.
_LINGER_SECONDS = 1.0
#: Larger bodies are sent in parts, each with a time limit of its own: a slow client is no dead one.
_PART_BYTES = 64 * 1024
#: Of small bodies, a copy is kept, to be left out of the log's words about them.
_KEPT_BYTES = 8 * 1024
_DISCONNECTED = {"type": "http.disconnect"}


class ClientStalled(Exception):
    """The client has taken nothing of the answer for too long."""


class Exchange:
    """The messages of one request."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        headers: Headers,
        intake: Intake,
        *,
        http_version: str,
        most_bytes: int,
        send_seconds: float,
    ) -> None:
        self.headers = headers
        self._is_http1 = http_version.startswith("1")
        #: Whether the reply has begun to be sent, and whether its end is.
        self.begun = self.ending = False
        #: The body was given up; nothing more is read of it.
        self.gave_up = False
        #: The body, while it is small enough to be kept.
        self.kept: bytes | None = b""
        self._body = b""
        self._receive_raw = receive
        self._send_raw = send
        self._send_seconds = send_seconds
        self._most_bytes = most_bytes
        self._intake = intake
        self._arriving: Arriving | None = None
        self._whole = not self.has_body
        self._gone = False
        self._settled: asyncio.Future[None] | None = None

    @property
    def has_body(self) -> bool:
        """Return whether the head announces a body."""
        headers = self.headers
        if not self._is_http1 and b"content-length" not in headers:
            return b"content-type" in headers
        return headers.get(b"content-length", b"0").strip(b"0 ") != b"" or (
            b"transfer-encoding" in headers
        )

    @property
    def is_small(self) -> bool:
        """Return whether the head announces a body that is read even where it is refused."""
        length = self.headers.get(b"content-length", b"")
        small = length.isdigit() and int(length) <= _SMALL_BODY_BYTES
        return small and not self.gave_up and b"expect" not in self.headers

    # --- the body -----------------------------------------------------------------------------

    async def receive(self) -> Any:
        """Return the next message; once the body's time is over, that the client is gone."""
        if self._whole:
            return await self._receive_raw()
        if self._arriving is None:
            self._arriving = self._intake.begin(self._most_bytes)
        try:
            async with self._arriving.limit():
                message = await self._receive_raw()
        except TimeoutError:
            self.gave_up = True
            self._end_body()
            return _DISCONNECTED
        except BaseException:
            self._end_body()
            raise
        self._note(message, self._arriving)
        return message

    def _note(self, message: Any, arriving: Arriving) -> None:
        part = message.get("body", b"")
        arriving.add(len(part))
        if self.kept is not None:
            self.kept = self.kept + part if arriving.size <= _KEPT_BYTES else None
        self._gone = message["type"] == "http.disconnect"
        if self._gone or not message.get("more_body"):
            self._whole = True
            self._end_body()

    async def read_body(self) -> None:
        """Read the whole body; raises a `ServiceError` for one that is too large or too slow."""
        parts: list[bytes] = []
        size = 0
        self._whole = False  # some servers announce no body that comes even so
        while not self._whole:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                if self.gave_up:
                    raise BodyTimeout
                raise InvalidInput("body: the connection closed before the body was whole")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most_bytes:
                raise PayloadTooLarge(f"The body is over {self._most_bytes} bytes.")
        self._body = b"".join(parts)

    def take_body(self) -> bytes:
        """Return the body that was read, and keep nothing of it: a reply may take long to send."""
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """End it; an error that still knows this object does not hold the connection."""
        self._end_body()
        self._receive_raw = self._send_raw = _closed

    def _end_body(self) -> None:
        if self._arriving is not None:
            self._arriving.end()
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    # --- the reply ----------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        """Send a message, a large body in parts of its own.

        Raises `ClientStalled` when the client takes none of it for too long.
        """
        body = message.get("body", b"")
        if len(body) <= _PART_BYTES:
            await self._send_now(message)
            return
        end = (len(body) - 1) // _PART_BYTES * _PART_BYTES
        for begin in range(0, end, _PART_BYTES):
            part = body[begin : begin + _PART_BYTES]
            await self._send_now({**message, "body": part, "more_body": True})
        await self._send_now({**message, "body": body[end:]})

    async def _send_now(self, *messages: Any) -> None:
        self.begun = True
        last = messages[-1]
        if last["type"] == "http.response.body" and not last.get("more_body"):
            self.ending = True
        try:
            async with asyncio.timeout(self._send_seconds):
                for message in messages:
                    await self._send_raw(message)
        except TimeoutError:
            raise ClientStalled from None

    async def reply(self, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
        """Send a whole reply; where the body was not read to its end, the connection ends too."""
        if isinstance(reply.body, bytes):
            headers.append((b"content-length", b"%d" % len(reply.body)))
        if not self._whole and not self._is_http1:
            # The connection is for other requests too, and hypercorn ends it over what comes late.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drop_rest(), _LINGER_SECONDS)
        if self._whole or not self._is_http1 or await self._read_rest():
            await self._send_reply(reply, headers)
            return
        headers.append((b"connection", b"close"))
        dropping = asyncio.create_task(self._drop_rest())
        try:
            await self._send_reply(reply, headers)
            await asyncio.wait({dropping}, timeout=_LINGER_SECONDS)
        finally:
            dropping.cancel()

    async def _send_reply(self, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
        start = {"type": "http.response.start", "status": reply.status, "headers": headers}
        body = reply.body
        if isinstance(body, bytes):
            whole = {"type": "http.response.body", "body": body}
            if len(body) <= _PART_BYTES:
                await self._send_now(start, whole)  # with one time limit for both
                return
            await self.send(start)
            await self.send(whole)
            return
        try:
            await self.send(start)
            await self._send_pieces(body)
        finally:
            await body.aclose()  # type: ignore[attr-defined]

    async def _send_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        """Send pieces as they are made; a failure cuts the body, so nobody takes it for whole.

        Servers cut a body when the application returns without having ended it.
        """
        try:
            async for piece in pieces:
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        except ClientStalled:
            raise
        except (Exception, SystemExit):
            log.exception("stream_failed")
            return
        await self.send({"type": "http.response.body", "body": b""})

    async def settle(self) -> list[tuple[bytes, bytes]]:
        """Wait for the rest of a small body that another task reads; returns headers to add."""
        if not self._whole and (self.is_small or not self._is_http1):
            self._settled = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._settled}, timeout=_SMALL_BODY_SECONDS)
        return [] if self._whole or not self._is_http1 else [(b"connection", b"close")]

    async def _read_rest(self) -> bool:
        """Read the rest of a small body; returns whether it is whole now."""
        if self._gone or not self.is_small:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SMALL_BODY_SECONDS):
                while not (self._whole or self.gave_up):
                    await self.receive()
        return self._whole and not self._gone

    async def _drop_rest(self) -> None:
        while not self._gone:
            message = await self._receive_raw()
            self._gone = message["type"] == "http.disconnect" or not message.get("more_body")


async def _closed(*_: object) -> Any:
    return _DISCONNECTED
