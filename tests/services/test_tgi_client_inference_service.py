"""The TGI client service as its document describes it, before a server that speaks TGI."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from eth_abi.abi import decode, encode

from ml.testing.tgi_server import Behaviour, TGIServer
from tests.services.conftest import curls_of_readme
from tests.support.processes import ROOT, Server, clean_environment, free_port, until

NAME = "tgi_client_inference_service"
SERVICE = ROOT / "services" / NAME
TEXT = "Is the sky blue during a clear day?"
ANSWER = f"You asked: {TEXT}"
RETRIES = {"tries": 3, "delay": 0.05, "jitter": 0}


@pytest.fixture(scope="module")
def upstream() -> TGIServer:
    return TGIServer()


@pytest.fixture(scope="module")
def service(upstream: TGIServer) -> Iterator[Server]:
    """The service with the document's `config.json` environment, two workers as there."""
    with (
        upstream.serving_in_thread() as url,
        start(url, "--workers=2", TGI_INF_TOKEN="YOUR_TOKEN_HERE") as server,
    ):
        yield server.wait_ready(2)


@pytest.fixture(autouse=True)
def _nothing_scripted(upstream: TGIServer) -> Iterator[None]:
    yield
    upstream.upcoming.clear()
    upstream.is_healthy = True


def start(url: str, *options: str, **settings: str) -> Server:
    port = free_port()
    command = ["serve", NAME, f"--env-file={SERVICE / '.env.example'}"]
    environment = clean_environment(
        TGI_INF_WORKFLOW_POSITIONAL_ARGS=json.dumps([url, 30]),
        TGI_INF_WORKFLOW_KW_ARGS=json.dumps({"retry_params": RETRIES, "max_new_tokens": 30}),
        **settings,
    )
    return Server(
        [*command, f"--bind=127.0.0.1:{port}", *options], port=port, environment=environment
    )


def test_the_curl_of_the_readme_is_answered(service: Server) -> None:
    [command] = curls_of_readme(SERVICE / "README.md", service.url)
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == ANSWER


@pytest.mark.parametrize("data", [{"text": TEXT}, TEXT, {"output": TEXT, "more": 1}])
def test_a_text_is_read_in_every_form(service: Server, upstream: TGIServer, data: Any) -> None:
    assert service.post(data).json() == ANSWER
    request = upstream.received[-1]
    assert request.body["messages"] == [{"role": "user", "content": TEXT}]
    assert request.body["max_tokens"] == 30
    assert request.headers["authorization"] == "Bearer YOUR_TOKEN_HERE"


def test_a_contract_gets_an_abi_string(service: Server) -> None:
    data = encode(["string"], [TEXT]).hex()
    reply = service.post(data, source=0).json()
    assert decode(["string"], bytes.fromhex(reply["raw_output"])) == (ANSWER,)
    assert reply["raw_input"] == data


def test_a_stream_comes_token_by_token(service: Server, upstream: TGIServer) -> None:
    upstream.upcoming.append(Behaviour(tokens=["日", "本", " 🙂"], token_seconds=0.1))
    message = {"source": 1, "destination": 2, "data": {"text": TEXT}}
    with httpx.stream("POST", f"{service.url}/service_output", json=message, timeout=30) as reply:
        pieces = [piece.decode() for piece in reply.iter_raw()]
    assert pieces == ["日", "本", " 🙂"]


def test_a_client_that_leaves_ends_the_upstream_request(
    service: Server, upstream: TGIServer
) -> None:
    left, received = upstream.left, len(upstream.received)
    upstream.upcoming.append(Behaviour(delay_seconds=60))
    body = json.dumps({"source": 1, "data": TEXT}).encode()
    head = (
        "POST /service_output HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
        client.sendall(head.encode() + body)
        until(lambda: len(upstream.received) > received, "the upstream has the request")
    until(lambda: upstream.left == left + 1, "the upstream request is closed")


def test_overload_is_tried_again_and_then_told(service: Server, upstream: TGIServer) -> None:
    upstream.upcoming.extend([Behaviour(status=429)] * 2)
    assert service.post(TEXT).json() == ANSWER
    upstream.upcoming.extend([Behaviour(status=429, retry_after="1")] * 3)
    reply = service.post(TEXT)
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "1"
    assert "overloaded" in reply.json()["description"]


@pytest.mark.parametrize("data", [{}, {"text": ""}, 7, {"text": TEXT, "max_new_tokens": 31}])
def test_a_wrong_request_is_refused_without_asking_upstream(
    service: Server, upstream: TGIServer, data: Any
) -> None:
    asked = len(upstream.received)
    reply = service.post(data)
    assert reply.status_code == 400
    assert "data" in reply.json()["description"]
    assert len(upstream.received) == asked


def test_a_service_waits_for_its_upstream_and_follows_its_health() -> None:
    port = free_port()
    upstream = TGIServer()
    with start(f"http://127.0.0.1:{port}", TGI_INF_REQUEST_TIMEOUT_SECONDS="1") as server:
        waiting = until(lambda: not_ready(server, "upstream_unavailable"), "it waits")
        assert "cannot be reached" in waiting["description"]
        assert server.post(TEXT).status_code == 503
    with upstream.serving_in_thread() as url, start(url) as server:
        server.wait_ready()
        upstream.is_healthy = False
        sick = until(lambda: not_ready(server, "workflow_check_failed"), "it follows")
        assert "not healthy" in sick["description"]
        assert server.post(TEXT).json() == ANSWER  # tried all the same
        probes, end = upstream.probes, time.monotonic() + 1
        while time.monotonic() < end:
            server.get("/health/ready")
        assert upstream.probes <= probes + 1
        upstream.is_healthy = True
        until(lambda: server.get("/health/ready").status_code == 200, "it is ready again")


def not_ready(server: Server, reason: str) -> dict[str, Any] | None:
    reply = server.get("/health/ready")
    document: dict[str, Any] = reply.json()
    return document if reply.status_code == 503 and document["reason"] == reason else None


def test_an_unknown_parameter_ends_the_start_with_a_hint() -> None:
    environment = clean_environment(
        TGI_INF_WORKFLOW_POSITIONAL_ARGS='["http://127.0.0.1:8080"]',
        TGI_INF_WORKFLOW_KW_ARGS='{"max_new_token": 5}',
    )
    with Server(["serve", NAME], port=0, environment=environment) as server:
        assert server.wait() == 2
        assert "did you mean 'max_new_tokens'?" in server.stderr


def test_the_service_needs_no_torch() -> None:
    code = f"import sys, {NAME}; {NAME}.create_app(); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(TGI_INF_WORKFLOW_POSITIONAL_ARGS='["http://127.0.0.1:8080"]'),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert not {"torch", "transformers", "tokenizers", "safetensors"} & set(ran.stdout.split())


def test_whose_request_it_is_goes_along_to_the_model_server(
    service: Server, upstream: TGIServer
) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ids = {"x-request-id": "from-the-node", "traceparent": parent, "tracestate": "a=b"}
    for destination in (1, 2):
        message = {"source": 1, "destination": destination, "data": {"text": "Hello"}}
        assert httpx.post(f"{service.url}/service_output", json=message, headers=ids).is_success
        assert ids.items() <= upstream.received[-1].headers.items()
    wrong = {"traceparent": "from somewhere", "tracestate": "a=b"}
    reply = service.post({"text": "Hello"}, headers=wrong)
    headers = upstream.received[-1].headers
    assert not wrong.keys() & headers.keys()
    assert headers["x-request-id"] == reply.headers["x-request-id"]
