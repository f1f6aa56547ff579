"""Asks a service whether it is ready, while something else goes on."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections.abc import Iterator

from benchmarks.servers import KEY, Server

__all__ = ["probing", "read"]


@contextlib.contextmanager
def probing(server: Server) -> Iterator[list[float]]:
    """Ask whether it is ready for as long as the block runs; the list gets milliseconds."""
    times: list[float] = []
    done = threading.Event()

    def probe() -> None:
        while not done.wait(0.05):
            started = time.perf_counter()
            with contextlib.suppress(OSError):
                read(server, "/health/ready")
            times.append(1000 * (time.perf_counter() - started))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()


def read(server: Server, path: str) -> bytes:
    """Return the body of an answer."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", headers={"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(asked, timeout=30) as reply:  # noqa: S310
        content: bytes = reply.read()
        return content
