"""Clients that hold on to what they are given keep nobody out, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.attacks import (
    connect,
    http2_resets,
    request,
    reset_flood,
    slow_readers,
    slow_senders,
    zero_windows,
)
from tests.conftest import StartServer
from tests.e2e.conftest import EVERY_SERVER
from tests.support.processes import Server, until
from tests.support.requests import STREAM, body
from tests.support.workflows import Echo, Failing, Pieces

PATH = "/service_output"
BIG = "x" * 4 * 2**20


def in_flight(server: Server) -> float:
    key = {"Authorization": "Bearer key"}
    text = server.get("/metrics", headers=key).text
    [value] = re.findall(r"^requests_in_flight (\S+)", text, re.MULTILINE)
    return float(value)


def rest_of(sock: socket.socket) -> bytes:
    """Return what a connection still brings until it ends."""
    data = b""
    sock.settimeout(20)
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(2**20):
            data += part
    return data


def test_those_who_send_slowly_take_no_place_and_are_given_up(start_server: StartServer) -> None:
    server = start_server(Echo, max_in_flight=2, body_timeout_seconds=2).wait_ready()
    slow = request(PATH, b" " * 1000)[:-1000]
    quart = request("/nothing", b" " * 1000)[:-1000]
    with slow_senders(server.port, slow, 40, every_seconds=0.2) as sockets:
        for _ in range(10):
            assert server.post("x").status_code == 200
        assert in_flight(server) == 0
        assert rest_of(sockets[0]).startswith(b"HTTP/1.1 408 ")
    with slow_senders(server.port, quart, 10, every_seconds=0.2) as sockets:
        assert rest_of(sockets[0]).startswith(b"HTTP/1.1 404 ")
    assert server.post("x").status_code == 200


def test_those_who_read_nothing_lose_their_place_and_their_connection(
    start_server: StartServer,
) -> None:
    server = start_server(Echo, max_in_flight=4, send_timeout_seconds=1).wait_ready()
    [worker] = server.children()
    files = Path(f"/proc/{worker}/fd")
    before = len(list(files.iterdir()))
    with slow_readers(server.port, request(PATH, body(BIG)), 4):
        until(lambda: in_flight(server) == 4, "the answers are on their way")
        until(lambda: in_flight(server) == 0, "the places are free", 20)
        assert server.post("x").status_code == 200
        until(lambda: len(list(files.iterdir())) < before + 4, "the connections are gone", 20)


def test_a_stream_that_nobody_reads_is_stopped_and_one_that_is_read_slowly_is_not(
    start_server: StartServer,
) -> None:
    server = start_server(Pieces, max_in_flight=4, send_timeout_seconds=3).wait_ready()
    endless = request(PATH, body(["x" * 2**16] * 200, destination=STREAM))
    with slow_readers(server.port, endless, 3):
        until(lambda: in_flight(server) == 3, "the streams run")
        until(lambda: in_flight(server) == 0, "the streams are stopped", 20)
    with connect(server.port, receive_bytes=2**16) as sock:
        sock.sendall(endless)
        began = time.monotonic()
        while time.monotonic() - began < 7:
            assert sock.recv(2**17)
            time.sleep(0.1)
        assert in_flight(server) == 1


@pytest.mark.parametrize("start_server", EVERY_SERVER, indirect=True)
def test_connections_that_are_reset_leave_nothing_behind(start_server: StartServer) -> None:
    server = start_server(Echo, max_in_flight=4).wait_ready()
    reset_flood(server.port, request(PATH, body("x")), 50)
    reset_flood(server.port, request(PATH, body("x"))[:-5], 50)
    until(lambda: in_flight(server) == 0, "all places are free")
    assert server.post("x").status_code == 200


@pytest.mark.parametrize("start_server", EVERY_SERVER, indirect=True)
def test_http2_without_windows_takes_no_place_for_good(start_server: StartServer) -> None:
    server = start_server(Echo, max_in_flight=8, send_timeout_seconds=1).wait_ready()
    with zero_windows(server.port, PATH, body("x"), connections=2, streams=20):
        until(lambda: in_flight(server) == 0, "the places are free", 20)
        assert server.post("x").status_code == 200
    http2_resets(server.port, PATH, streams=50)
    until(lambda: in_flight(server) == 0, "the places are free", 20)


def test_http2_in_clear_text_is_not_spoken_unless_it_is_asked_for(
    start_server: StartServer,
) -> None:
    server = start_server(Echo).wait_ready()
    with zero_windows(server.port, PATH, body("x"), connections=1, streams=1) as [sock]:
        assert not rest_of(sock).startswith(b"HTTP/2")
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMA"}
    response = server.get("/health/ready", headers=upgrade)
    assert response.status_code == 200
    assert response.http_version == "HTTP/1.1"


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        (PATH, body("x"), {}, 401),
        (PATH, body("x"), {"Authorization": "Bearer key", "Content-Type": "text/plain"}, 415),
        (PATH, body("not ready"), {"Authorization": "Bearer key"}, 503),
        ("/nothing", body("x"), {"Authorization": "Bearer key"}, 404),
        ("/config", body("x" * 70_000), {"Authorization": "Bearer key"}, 405),
        (PATH, body("x" * 70_000), {}, 401),
    ],
)
def test_a_refused_request_whose_body_comes_late_leaves_a_connection_that_says_what_it_is(
    start_server: StartServer,
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    server = start_server(Failing, api_keys="key").wait_ready()
    headers = {"Content-Type": "application/json", **headers}
    with httpx.Client(base_url=server.url, timeout=20) as client:
        for _ in range(50):  # httpx sends head and body in two parts
            response = client.post(path, content=content, headers=headers)
            assert response.status_code == status
            assert json.loads(response.content)["code"] == str(status)


@pytest.mark.parametrize("start_server", ["hypercorn"], indirect=True)
def test_by_http2_requests_are_answered_and_refused_as_by_http1(start_server: StartServer) -> None:
    server = start_server(Echo, "--http2", api_keys="key", send_timeout_seconds=1).wait_ready()
    large = body("x" * 100_000)
    with httpx.Client(base_url=server.url, http1=False, http2=True, timeout=20) as client:
        for path, headers, status in (
            (PATH, {}, 401),
            (PATH, {"Content-Type": "text/plain", "Authorization": "Bearer key"}, 415),
            ("/nothing", {"Authorization": "Bearer key"}, 404),
            (PATH, {"Authorization": "Bearer key"}, 200),
        ):
            response = client.post(path, content=large, headers=headers)
            assert (response.status_code, response.http_version) == (status, "HTTP/2")
    with zero_windows(server.port, PATH, body("x"), connections=4, streams=70, key="key"):
        until(lambda: in_flight(server) > 0, "they have places")
        until(lambda: in_flight(server) == 0, "the places are free", 20)
    server.signal(signal.SIGTERM)
    assert server.wait(60) == 0
