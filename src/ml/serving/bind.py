"""Addresses to listen on, as `--bind` names them, and their sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass

__all__ = ["Address", "parse_address"]

_FORM = "write host:port, such as 127.0.0.1:8000, or unix:path"
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, or a unix socket where `path` is set."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def open(self, *, shared: bool) -> socket.socket:
        """Return a socket bound to it; a `shared` port may be bound by several processes.

        Raises `OSError` where it cannot be bound.
        """
        if self.path:
            family, place = socket.AF_UNIX, self.path
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(self.path).st_mode):  # noqa: PTH116 (left by another run)
                    os.unlink(self.path)  # noqa: PTH108
        else:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            place = (self.host, self.port)  # type: ignore[assignment]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is not socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(place)
        except BaseException:
            sock.close()
            raise
        sock.setblocking(False)
        return sock


def parse_address(text: str) -> Address:
    """Return the address that a text names; raises `ValueError` that says how to write one."""
    if text.startswith("unix:"):
        if not (path := text.removeprefix("unix:")):
            raise ValueError(f"{text!r} names no path: {_FORM}")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or "/" in text:
        raise ValueError(f"{text!r} is no address: {_FORM}")
    if not (port.isascii() and port.isdigit() and int(port) <= _MOST_PORT):
        raise ValueError(f"{text!r} has no port from 0 to {_MOST_PORT}: {_FORM}")
    if host.startswith("[") != host.endswith("]"):
        raise ValueError(f"{text!r} has half a pair of brackets: {_FORM}")
    return Address(host.strip("[]"), int(port))
