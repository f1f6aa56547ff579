"""Lets hypercorn give a connection back when its client has closed it.

hypercorn 0.18 goes on waiting for the keep-alive time of a connection whose client left after the
reply: its socket stays open for 75 seconds. The node makes a new connection for each job.
"""

from __future__ import annotations

import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import TCPServer

__all__ = ["close_with_the_client"]


def close_with_the_client() -> None:
    """Serve connections so from now on, in this process."""
    hypercorn.asyncio.run.TCPServer = _ClosingTCPServer  # type: ignore[attr-defined]


class _ClosingTCPServer(TCPServer):
    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()
