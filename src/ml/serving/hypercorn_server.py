"""Serves one application with hypercorn."""

from __future__ import annotations

import logging
import socket
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import hypercorn.asyncio
import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config

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


class _Connection(TCPServer):
    """Ends with its client.

    hypercorn 0.18 goes on waiting for the keep-alive time of a connection whose client left after
    the reply: its socket stays open for 75 seconds. The node makes a new connection for each job.
    """

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()
