"""Clients that mean harm to a server on this machine, each bounded in count and in time."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import h2.config
import h2.connection
import h2.exceptions
import h2.settings

__all__ = ["reset_flood", "slow_readers", "slow_senders", "zero_windows"]

HOST = "127.0.0.1"
#: Closing such a socket resets its connection.
_RESET = struct.pack("ii", 1, 0)


def request(path: str, body: bytes = b"", *, method: str = "POST", key: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += ["content-type: application/json"] * bool(body)
    lines += [f"authorization: Bearer {key}"] * bool(key)
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(port: int, *, receive_bytes: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(10)
    sock.connect((HOST, port))
    return sock


@contextlib.contextmanager
def slow_senders(
    port: int, head: bytes, count: int, *, every_seconds: float = 1.0
) -> Iterator[list[socket.socket]]:
    """Open connections that send a request's head at once, and its body a byte at a time."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(count)]
        done = threading.Event()

        def drip() -> None:
            while not done.wait(every_seconds):
                for sock in sockets:
                    with contextlib.suppress(OSError):
                        sock.send(b" ")

        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.sendall(head)
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield sockets
        finally:
            done.set()
            thread.join()


@contextlib.contextmanager
def slow_readers(port: int, content: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that ask, and read nothing of the answer."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(port, receive_bytes=4096)) for _ in range(count)]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.sendall(content)
        yield sockets


def reset_flood(port: int, content: bytes, count: int) -> None:
    """Ask, and reset the connection at once, again and again."""
    for _ in range(count):
        with contextlib.suppress(OSError):
            sock = connect(port)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.sendall(content)
            sock.close()


@contextlib.contextmanager
def zero_windows(
    port: int, path: str, body: bytes, *, connections: int, streams: int, key: str = ""
) -> Iterator[list[socket.socket]]:
    """Ask by HTTP/2, with prior knowledge, and let the server send nothing of its answers."""

    def ask(client: h2.connection.H2Connection) -> None:
        client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        for number in range(streams):
            client.send_headers(2 * number + 1, _headers(path, key))
            client.send_data(2 * number + 1, body, end_stream=True)

    with _by_http2(port, connections, ask) as sockets:
        yield sockets


def http2_resets(port: int, path: str, *, streams: int, key: str = "") -> None:
    """Open streams by HTTP/2 and reset each at once."""

    def ask(client: h2.connection.H2Connection) -> None:
        for number in range(streams):
            client.send_headers(2 * number + 1, _headers(path, key))
            client.reset_stream(2 * number + 1)

    with _by_http2(port, 1, ask):
        pass


@contextlib.contextmanager
def _by_http2(
    port: int, connections: int, ask: Callable[[h2.connection.H2Connection], None]
) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(connections):
            sock = stack.enter_context(connect(port))
            client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            client.initiate_connection()
            with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
                sock.sendall(client.data_to_send())
                client.receive_data(sock.recv(65536))  # its settings; a server without is silent
                ask(client)
                sock.sendall(client.data_to_send())
            sockets.append(sock)
        yield sockets


def _headers(path: str, key: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":path", path),
        (":scheme", "http"),
        (":authority", "localhost"),
        ("content-type", "application/json"),
        *([("authorization", f"Bearer {key}")] if key else []),
    ]
