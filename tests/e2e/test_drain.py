"""Stopping a server loses no request that it has taken on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.processes import Server, in_background, until
from tests.support.workflows import Echo, Slow, SlowAsync


def started(journal: Path) -> list[int]:
    """Return the process of each run that has started."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("started")]


def handles(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [mask] = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def refuses_connections(server: Server) -> bool:
    try:
        server.get("/health/live")
    except httpx.ConnectError:
        return True
    except httpx.TransportError:  # it was closed between the handshake and the answer
        return False
    return False


def test_requests_in_flight_on_both_workers_are_answered(
    start_server: StartServer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    server = start_server(
        Slow, workers=2, workflow_positional_args=[str(journal)], drain_delay_seconds=1.5
    ).wait_ready(2)
    with in_background(lambda: server.post(4), times=12) as replies:
        until(lambda: len(started(journal)) == 12, "all requests are at work")
        server.signal(signal.SIGTERM)
        until(lambda: server.log("draining"), "the workers heard of it")
        # In the delay, a router is told to go elsewhere, and who comes even so is answered.
        until(lambda: server.get("/health/ready").json()["state"] == "draining", "it says so")
        assert server.post(0).status_code == 200
        until(lambda: refuses_connections(server), "new connections are refused")
        assert replies == []  # all of them are still in flight
    assert [reply.status_code for reply in replies] == [200] * 12
    assert {reply.json()["pid"] for reply in replies} == set(started(journal))
    assert len(set(started(journal))) == 2
    assert server.wait() == 0
    assert server.stderr == ""


def test_a_second_signal_ends_it_at_once(start_server: StartServer, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    server = start_server(Slow, workers=2, workflow_positional_args=[str(journal)]).wait_ready(2)
    with in_background(lambda: server.post(60)) as replies:
        until(lambda: started(journal), "the request is at work")
        server.signal(signal.SIGTERM)
        until(lambda: len(server.log("draining")) == 2, "it drains")
        server.signal(signal.SIGTERM)
        assert server.wait(20) == 1
    assert isinstance(replies[0], httpx.TransportError)
    assert "second signal" in server.stderr


def test_past_the_grace_time_it_ends_and_the_caller_is_told(
    start_server: StartServer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    server = start_server(
        Slow,
        "--graceful-timeout=0.3",
        workflow_positional_args=[str(journal)],
        drain_delay_seconds=0,
    ).wait_ready()
    with in_background(lambda: server.post(60)) as replies:
        until(lambda: started(journal), "the request is at work")
        server.signal(signal.SIGTERM)
    assert replies[0].status_code == 503
    assert replies[0].json()["code"] == "503"
    assert server.wait(20) == 0


def test_past_the_grace_time_those_in_line_are_told_too(start_server: StartServer) -> None:
    server = start_server(
        SlowAsync,
        "--graceful-timeout=0.3",
        max_in_flight=1,
        max_wait_seconds=60,
        drain_delay_seconds=0,
    ).wait_ready()
    with in_background(lambda: server.post(60), times=4) as replies:
        until(lambda: server.metrics()["requests_in_flight"] == 1, "one is at work")
        time.sleep(0.5)  # of those in line, nothing tells
        server.signal(signal.SIGTERM)
    assert [reply.status_code for reply in replies] == [503] * 4
    assert server.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_it_cleanly_and_without_a_delay(
    start_server: StartServer, workers: int
) -> None:
    server = start_server(Echo, workers=workers, drain_delay_seconds=60).wait_ready(workers)
    # A worker that is about to listen, with nothing to finish yet, just ends.
    until(lambda: all(handles(pid, signal.SIGINT) for pid in server.children()), "both serve")
    server.signal(signal.SIGINT)
    assert server.wait(20) == 0
    assert server.stderr == ""
    assert len(server.log("draining")) == workers


def test_a_worker_that_is_told_to_stop_alone_finishes_and_is_replaced(
    start_server: StartServer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    server = start_server(
        Slow, workflow_positional_args=[str(journal)], drain_delay_seconds=0
    ).wait_ready()
    with in_background(lambda: server.post(0.5)) as replies:
        [pid] = until(lambda: started(journal), "the request is at work")
        os.kill(pid, signal.SIGTERM)
    assert replies[0].status_code == 200
    until(lambda: len(server.log("workflow_ready")) == 2, "another worker is ready")
    assert server.post(0).json()["pid"] != pid
