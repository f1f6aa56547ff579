"""What clients see on their connections, and what a server does when they leave."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.e2e.conftest import EVERY_SERVER
from tests.support.processes import SERVICE, Server, in_background, until
from tests.support.requests import STREAM, body
from tests.support.workflows import Echo, Failing, Pieces, Slow

LIMIT = 2**20


@contextlib.contextmanager
def connected(server: Server, content: bytes) -> Iterator[socket.socket]:
    """Open a connection and send these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        with contextlib.suppress(ConnectionError):  # it may answer and close before the end
            sock.sendall(content)
        yield sock


def received(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer, read until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while part := sock.recv(65536):
            data += part
            head, _, content = data.partition(b"\r\n\r\n")
            if b"content-length: %d" % len(content) in head and content:
                break
    head, _, content = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, content


def head(**headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /service_output HTTP/1.1", "host: x", *lines, "", ""]).encode()


def whole(content: bytes) -> bytes:
    return head(content_type="application/json", content_length=str(len(content))) + content


def test_a_hook_that_calls_exit_leaves_its_worker_alive(start_server: StartServer) -> None:
    server = start_server(Failing).wait_ready()
    response = server.post("exit")
    assert response.status_code == 500
    assert response.json()["code"] == "500"
    assert server.post("not ready").status_code == 503
    assert server.stderr == ""


@pytest.mark.parametrize("start_server", EVERY_SERVER, indirect=True)
def test_a_client_that_leaves_stops_its_work_and_frees_its_place(
    start_server: StartServer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    server = start_server(
        Slow, workflow_positional_args=[str(journal)], max_in_flight=1
    ).wait_ready()
    with connected(server, whole(body(60))):
        until(journal.exists, "the work has started")
        assert server.post(0).status_code == 503
    until(lambda: "cancelled" in journal.read_text(), "the hook sees that nobody waits")
    left = 'http_requests_total{method="POST",route="/service_output",status="499"}'
    until(lambda: server.metrics().get(left) == 1, "its leaving is counted")
    metrics = server.metrics()
    assert metrics["requests_cancelled_total"] == 1
    assert metrics["requests_shed_total"] == 1
    assert metrics["requests_in_flight"] == 0
    assert server.post(0).status_code == 200


def test_at_its_limit_it_refuses_before_a_body_is_sent(
    start_server: StartServer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    server = start_server(
        Slow, workflow_positional_args=[str(journal)], max_in_flight=1
    ).wait_ready()
    with connected(server, whole(body(60))):
        until(journal.exists, "the place is taken")
        with connected(
            server, head(content_type="application/json", content_length="100000")
        ) as new:
            status, headers, content = received(new)
    assert status == 503
    assert headers["retry-after"] == "1"
    assert json.loads(content)["code"] == "503"


def test_bodies_over_the_limit_are_refused_with_a_readable_answer(
    start_server: StartServer,
) -> None:
    server = start_server(Echo, max_body_bytes=LIMIT, body_timeout_seconds=1).wait_ready()
    announced = head(content_type="application/json", content_length=str(LIMIT + 1))
    chunk = b"%x\r\n%s\r\n" % (LIMIT // 2, b"x" * (LIMIT // 2))
    chunked = head(content_type="application/json", transfer_encoding="chunked") + chunk * 3
    for content in (announced, chunked):
        with connected(server, content) as sock:
            status, headers, answer = received(sock)
        assert status == 413
        assert headers["x-request-id"]
        assert json.loads(answer)["code"] == "413"
    # A body that stays away is given up after its time.
    late = head(content_type="application/json", content_length="100")
    with connected(server, late + b"{") as sock:
        assert received(sock)[0] == 408
    assert server.post(1).status_code == 200


def test_a_client_may_use_its_connection_again_after_an_answer_and_an_error(
    start_server: StartServer,
) -> None:
    server = start_server(Echo).wait_ready()
    with httpx.Client(base_url=server.url) as client:
        for source, status in ((1, 200), (7, 400), (1, 200)):
            response = client.post("/service_output", content=body("x", source=source))
            assert response.status_code == status
        assert client.get("/nothing").status_code == 404

    def request_ids() -> set[str]:
        return {line["request_id"] for line in server.log("request")}

    until(lambda: len(request_ids()) == 4, "each of the four has an id of its own")


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n", {400, 404, 405}),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", {404}),
        (
            b"GET /service_output HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
            b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            {403, 405},
        ),
    ],
    ids=["connect", "options", "websocket"],
)
def test_what_no_service_has_is_refused_without_a_traceback(
    start_server: StartServer, content: bytes, statuses: set[int]
) -> None:
    server = start_server(Echo).wait_ready()
    with connected(server, content) as sock:
        assert received(sock)[0] in statuses
    assert server.post(1).status_code == 200
    assert "Traceback" not in server.stdout + server.stderr


def test_two_ways_to_tell_where_a_body_ends_are_not_taken_together(
    start_server: StartServer,
) -> None:
    server = start_server(Echo).wait_ready()
    content = body("x")
    sent = head(
        content_type="application/json",
        content_length=str(len(content)),
        transfer_encoding="chunked",
    ) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    # granian does not tell of both; like a refusal, its answer is the connection's last.
    with connected(server, sent + whole(body("smuggled"))) as sock:
        answers = b""
        while part := sock.recv(65536):
            answers += part
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in answers


def test_pieces_arrive_as_they_are_made(start_server: StartServer) -> None:
    server = start_server(Pieces).wait_ready()
    content = body(["one", {"wait": 60}, "two"], destination=STREAM)
    with httpx.stream("POST", server.url + "/service_output", content=content) as response:
        assert response.status_code == 200
        assert next(response.iter_bytes()) == b"one"
    until(lambda: server.metrics()["requests_cancelled_total"] == 1, "the stream is stopped")
    until(lambda: server.metrics()["requests_in_flight"] == 0, "its place is free")


@pytest.mark.parametrize(("way", "told"), [("else", "the model broke"), ("exit", "SystemExit")])
def test_a_failure_in_a_stream_cuts_the_body_and_is_in_the_log(
    start_server: StartServer, way: str, told: str
) -> None:
    server = start_server(Pieces).wait_ready()
    content = body(["one", {"wait": 0.2}, {"fail": way}], destination=STREAM)
    headers = {"X-Request-ID": "mine"}
    address = server.url + "/service_output"
    with httpx.stream("POST", address, content=content, headers=headers) as response:
        pieces = response.iter_bytes()
        assert next(pieces) == b"one"
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            next(pieces)
    [line] = until(lambda: server.log("stream_failed"), "the failure is logged")
    assert line["request_id"] == "mine"
    assert told in line["exception"]
    assert server.post(["a"]).status_code == 200


def test_a_stream_in_flight_is_finished_when_the_server_is_stopped(
    start_server: StartServer,
) -> None:
    server = start_server(Pieces, drain_delay_seconds=0).wait_ready()
    content = body(["one ", {"wait": 1}, "two"], destination=STREAM)
    with in_background(lambda: httpx.post(server.url + "/service_output", content=content)) as got:
        until(lambda: server.metrics()["requests_in_flight"] == 1, "the stream runs")
        server.signal(signal.SIGTERM)
    assert got[0].text == "one two"
    assert server.wait() == 0


def test_what_is_no_http_does_not_disturb_it(start_server: StartServer) -> None:
    server = start_server(Echo).wait_ready()
    for content in (b"\x16\x03\x01\x02\x00", b"GARBAGE\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n"):
        with connected(server, content):
            pass
    assert server.post(1).status_code == 200
    assert server.get("/").json()["name"] == SERVICE


def test_a_connection_that_its_client_closed_is_given_back(start_server: StartServer) -> None:
    """Well before the keep-alive time is over; the node makes a connection for each job."""
    server = start_server(Echo).wait_ready()
    [worker] = server.children()
    sockets = Path(f"/proc/{worker}/fd")
    before = len(list(sockets.iterdir()))
    for _ in range(50):
        assert server.post("x").status_code == 200
    until(lambda: len(list(sockets.iterdir())) < before + 5, "the connections are closed", 10)


def test_head_and_body_of_a_reply_come_at_once(start_server: StartServer) -> None:
    server = start_server(Echo).wait_ready()
    with connected(server, whole(body("hello"))) as sock:
        assert sock.recv(65536).endswith(b'\r\n\r\n"hello"')
