"""Serves one application with hypercorn."""

from __future__ import annotations

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
from hypercorn.protocol.h11 import H11Protocol

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["serve"]


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
    """Ends with its client.

    hypercorn 0.18 goes on waiting for the keep-alive time of a connection whose client left after
    the reply: its socket stays open for 75 seconds. The node makes a new connection for each job.
    """

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()
