"""One worker process: a server around one application, with a drain that loses nothing."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import uvloop

from ml.serving.output import say
from ml.serving.supervisor import report_ready

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["bind_fault", "run_worker"]

_WRITTEN_AHEAD_BYTES = 128 * 1024


def bind_fault(options: argparse.Namespace) -> str | None:
    """Return why the addresses cannot be bound, or None.

    Workers share a port by SO_REUSEPORT, which a second server could do too without an error;
    this look without it finds one that is there already.
    """
    if options.workers > 1 and any(address.path for address in options.bind):
        return "workers cannot share a unix socket: use --workers=1 or a port"
    for address in options.bind:
        try:
            address.open(shared=False).close()
        except OSError as error:
            return f"cannot bind {address}: {error.strerror or error}"
    return None


def run_worker(
    build: Callable[[], ServiceApp], options: argparse.Namespace, lifeline: int, *, alone: bool
) -> NoReturn:
    """Build the application and serve it until SIGTERM, SIGINT or the supervisor's end.

    A worker that is not alone listens once its workflow is loaded. One whose workflow cannot be
    set up says why, in one line, and ends with the application's exit code.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it serves, there is nothing to finish
    supervisor = os.getppid()
    app = build()
    app.on_ready = lambda: report_ready(supervisor)
    app.loads_before_serving = not alone
    sockets = [address.open(shared=options.workers > 1) for address in options.bind]
    for sock in sockets:
        _watch_readers(sock, app.settings.send_timeout_seconds)
    if options.server == "granian":
        from ml.serving.granian_server import serve
    else:
        from ml.serving.hypercorn_server import serve
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(app, sockets, options, lambda: _until_stopped(app, lifeline)))
    except Exception:
        if not app.exit_code:  # else the server only repeats that the application did not start
            raise
    if app.exit_code:
        say(f"{app.name} cannot start: {app.health.message}")
    raise SystemExit(app.exit_code)


def _watch_readers(sock: socket.socket, seconds: float) -> None:
    """Let the kernel end connections whose client takes none of what is sent for so long.

    The application's own limit ends where the server has taken an answer over. So that it tells a
    slow client from a dead one, little is written ahead of the client. Connections inherit both
    options from the socket that they came in by.
    """
    if sock.family is socket.AF_UNIX or sys.platform != "linux":
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _WRITTEN_AHEAD_BYTES)


async def _until_stopped(app: ServiceApp, lifeline: int) -> None:
    """Return when new connections shall be refused: a drain delay after SIGTERM.

    In the delay the service says "not ready" and still answers, so that routers notice first.
    Where the workflow cannot be set up, there is none.
    """
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[float] = loop.create_future()

    def begin(delay_seconds: float) -> None:
        if stop.done():
            os._exit(1)  # the second signal: now
        app.begin_drain()
        stop.set_result(delay_seconds)

    loop.add_signal_handler(signal.SIGTERM, begin, app.settings.drain_delay_seconds)
    loop.add_signal_handler(signal.SIGINT, begin, 0.0)  # Ctrl-C: no router is watching

    def supervisor_gone() -> None:
        loop.remove_reader(lifeline)
        if not stop.done():
            begin(0.0)

    loop.add_reader(lifeline, supervisor_gone)

    def give_up() -> None:
        if not stop.done():
            stop.set_result(0.0)

    app.on_failed = give_up
    if app.exit_code:  # it failed before there was anyone to tell
        give_up()
    await asyncio.sleep(await stop)
