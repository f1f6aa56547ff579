"""Serves one application with hypercorn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import h11
import hypercorn.asyncio
import hypercorn.asyncio.run
import hypercorn.protocol
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["serve"]

#: From here on a write is not joined with others: what is not taken yet has to be seen.
_LARGE_BYTES = 16 * 1024


async def serve(
    app: ServiceApp,
    sockets: Sequence[socket.socket],
    options: Namespace,
    stopping: Callable[[], Awaitable[None]],
) -> None:
    """Serve until `stopping()` returns, then finish what is in flight within the grace time."""
    hypercorn.asyncio.run.TCPServer = _Connection  # type: ignore[attr-defined]
    config = Config()
    if not options.http2:
        config.alpn_protocols = ["http/1.1"]
        hypercorn.protocol.H11Protocol = _HTTP1Alone  # type: ignore[attr-defined]
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.graceful_timeout = options.graceful_timeout
    config.keep_alive_timeout = options.keep_alive
    config.backlog = options.backlog
    config.root_path = options.root_path
    config.certfile = options.certfile
    config.keyfile = options.keyfile
    config.include_server_header = False
    config.startup_timeout = float("inf")  # a large model may load for minutes
    config.errorlog = logging.getLogger("hypercorn.error")  # as it is: no handler of its own
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=stopping)


class _HTTP1Alone(H11Protocol):
    """Ignores a wish for HTTP/2 in clear text, as servers may."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass


class _Connection(TCPServer):
    """Does once in a connection, or in a reply, what hypercorn 0.18 does more often.

    - It ends with its client. hypercorn goes on waiting for the keep-alive time of a connection
      whose client left after the reply: its socket stays open for 75 seconds, and the node makes a
      new connection for each job.
    - The head and the body of a reply are written at once, as one packet.
    - One task watches for idleness as long as the connection lives, in place of two for each
      request.
    """

    async def run(self) -> None:
        self._unsent: list[bytes] = []
        self._idle_since: float | None = self.loop.time()
        await super().run()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._idle_since = self.loop.time() if event.idle else None
            if event.idle and self.context.terminated.is_set():
                await super().protocol_send(event)  # which ends the connection
        else:
            await super().protocol_send(event)

    async def _send(self, data: bytes) -> None:
        if not self._unsent:
            self.loop.call_soon(self._flush)
        self._unsent.append(data)
        if len(data) >= _LARGE_BYTES:
            self._flush()
        try:
            await self.writer.drain()
        except (ConnectionError, RuntimeError):
            await self.protocol.handle(Closed())

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent:
            with contextlib.suppress(ConnectionError, RuntimeError):  # the next `drain` says so
                self.writer.write(b"".join(unsent))

    async def _close(self) -> None:
        self._flush()
        await super()._close()

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        most = self.config.keep_alive_timeout
        while not self.context.terminated.is_set():
            since = self.loop.time() if self._idle_since is None else self._idle_since
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(since + most):
                    await self.context.terminated.wait()
            if self._idle_since == since:
                break
        if self._idle_since is not None:  # else its end comes with that of its request
            await asyncio.shield(self._initiate_server_close())
