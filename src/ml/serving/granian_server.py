"""Serves one application with granian, in the process and on the event loop of a worker of ours.

granian's Rust part reads and writes HTTP in a thread of its own; requests reach the application as
tasks of this loop. Its own processes and signals are not used: see `ml.serving.supervisor`.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["serve"]

log = structlog.get_logger(__name__)

#: Descriptors of a process that are not connections: files, pipes, sockets to other servers.
_OTHER_DESCRIPTORS = 256
#: For the request's head, and for what of an answer is written ahead, in each connection.
_BUFFER_BYTES = 64 * 1024
#: Its loggers' records go where all others go; "embedded server is experimental" is a warning.
_LOGGING = {"incremental": True, "handlers": {}, "loggers": {}}


async def serve(
    app: ServiceApp,
    sockets: Sequence[socket.socket],
    options: Namespace,
    stopping: Callable[[], Awaitable[None]],
) -> None:
    """Serve until `stopping()` returns, then finish what is in flight within the grace time."""
    requests = _Requests(app)
    await app.startup()
    servers = [_Server(requests, sock, options) for sock in sockets]
    serving = {asyncio.create_task(server.serve()) for server in servers}
    log.info("listening", addresses=[_address(sock) for sock in sockets])
    stop = asyncio.ensure_future(stopping())
    try:
        await asyncio.wait({stop, *serving}, return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.stop()  # type: ignore[no-untyped-call]
        _, late = await asyncio.wait(serving, timeout=options.graceful_timeout)
        if late:
            await requests.cancel()
            await asyncio.wait(late, timeout=1)  # for what the callers are told
        if not stop.done():
            raise RuntimeError("granian ended by itself")
    finally:
        await app.shutdown()


def _address(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


class _Requests:
    """The application as granian calls it; knows the requests in flight."""

    def __init__(self, app: ServiceApp) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        host, port = scope["server"]
        scope["server"] = host, int(port)  # ASGI has a number here
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._app(scope, receive, send)
        finally:
            self._tasks.discard(task)

    async def cancel(self) -> None:
        """Cancel what is in flight, and wait for its end."""
        for task in (tasks := set(self._tasks)):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)


class _Server(Server):
    """Listens on a socket that is bound already."""

    def __init__(self, requests: _Requests, sock: socket.socket, options: Namespace) -> None:
        self._socket = sock
        self._is_unix = sock.family is socket.AF_UNIX
        super().__init__(
            requests,
            interface=Interfaces.ASGINL,  # the application is started by us, once for all sockets
            http=HTTPModes.http1,
            websockets=False,
            backlog=options.backlog,
            backpressure=_most_connections(),
            http1_settings=HTTP1Settings(
                header_read_timeout=int(options.keep_alive * 1000),  # an idle connection's, too
                max_buffer_size=_BUFFER_BYTES,
            ),
            log_level=LogLevels.error,
            log_dictconfig=_LOGGING,
            ssl_cert=Path(options.certfile) if options.certfile else None,
            ssl_key=Path(options.keyfile) if options.keyfile else None,
            ssl_protocol_min=SSLProtocols.tls12,
            url_path_prefix=options.root_path.rstrip("/"),
        )

    def _init_shared_socket(self) -> None:
        arguments = (self._socket.detach(), self._is_unix, self.backlog)
        self._shd = SocketHolder(*arguments)  # type: ignore[assignment, call-arg]


def _most_connections() -> int:
    """Return how many connections are held at once; others wait in the kernel's queue."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return 2**16
    return max(_OTHER_DESCRIPTORS, descriptors - _OTHER_DESCRIPTORS)
