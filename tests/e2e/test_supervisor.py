"""`serve` keeps its workers running, and ends when there is no point in going on."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.processes import Server, is_running, until
from tests.support.workflows import DiesAtSetup, Echo, LeavesOrphans, Pid, SlowSetup


def answering(server: Server) -> int:
    """Return the process that answers a request."""
    pid: int = server.post(None).json()["pid"]
    return pid


def wait_answering(server: Server, pids: set[int]) -> None:
    """Wait until these processes have answered; a connection goes to either by chance."""
    seen: set[int] = set()

    def all_seen() -> bool:
        seen.add(answering(server))
        return seen >= pids

    until(all_seen, f"answers of {pids}")


def test_a_killed_worker_is_replaced_while_the_other_goes_on(start_server: StartServer) -> None:
    server = start_server(Pid, workers=2).wait_ready(2)
    first = server.children()
    assert len(first) == 2
    wait_answering(server, first)
    [killed, left] = first
    os.kill(killed, signal.SIGKILL)
    until(lambda: not is_running(killed), "the worker is gone")
    for _ in range(10):
        assert answering(server) != killed
    until(lambda: len(server.log("workflow_ready")) == 3, "a replacement is ready")
    second = server.children()
    assert len(second) == 2
    assert left in second
    wait_answering(server, second)
    assert f"worker {killed} ended (killed by SIGKILL); it is replaced" in server.stderr
    # The dead worker's gauges are gone, and its counts stay.
    metrics = server.metrics()
    assert metrics["workflow_ready"] == 2
    posted = [value for name, value in metrics.items() if "/service_output" in name]
    assert sum(posted) > 0


def test_when_the_supervisor_is_killed_its_workers_end(start_server: StartServer) -> None:
    server = start_server(Echo, workers=2).wait_ready(2)
    workers = server.children()
    os.kill(server.process.pid, signal.SIGKILL)
    until(lambda: not any(map(is_running, workers)), "the workers have ended")
    with pytest.raises(httpx.ConnectError):
        server.get("/health/live")


def test_workers_that_die_again_and_again_end_it_with_a_readable_text(
    start_server: StartServer,
) -> None:
    server = start_server(DiesAtSetup, workers=2)
    assert server.wait() == 1
    assert server.stderr.count("ended (exit code 7); it is replaced") == 4
    assert server.stderr.splitlines()[-1] == (
        "serve: workers died 5 times within 60 seconds (the last: exit code 7); giving up"
    )
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_one_line_and_code_1(start_server: StartServer, workers: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start_server(Echo, workers=workers, port=port)
        assert server.wait() == 1
    assert server.stderr == f"serve: cannot bind 127.0.0.1:{port}: Address already in use\n"


def test_a_port_of_another_of_our_servers_is_in_use_too(start_server: StartServer) -> None:
    first = start_server(Echo, workers=2).wait_ready(2)
    second = start_server(Echo, workers=2, port=first.port)
    assert second.wait() == 1
    assert "Address already in use" in second.stderr
    assert first.get("/health/ready").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_the_workflow_loads_it_is_alive_and_can_be_stopped(
    start_server: StartServer, number: int
) -> None:
    server = start_server(
        SlowSetup, workers=2, workflow_positional_args=[60], drain_delay_seconds=0
    )
    until(lambda: server.get("/health/live").status_code == 200, "it is alive")
    response = server.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["state"] == "starting"
    server.signal(number)
    assert server.wait(20) == 0
    assert "Traceback" not in server.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="adoption of orphans is asked of Linux")
def test_an_orphan_that_it_adopts_is_no_worker(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "orphan"
    server = start_server(LeavesOrphans, adopting=True, workflow_positional_args=[str(file)])
    server.wait_ready()
    orphan = int(until(lambda: file.exists() and file.read_text(), "the orphan ends"))
    until(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan is reaped")
    assert server.post(1).status_code == 200
    assert server.stderr == ""
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_terminal_that_closes_drains_and_under_nohup_does_nothing(
    start_server: StartServer,
) -> None:
    server = start_server(Echo, ignoring_hangup=True).wait_ready()
    server.signal(signal.SIGHUP)
    assert server.post(1).status_code == 200
    assert not server.log("draining")
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    server = start_server(Echo, drain_delay_seconds=0).wait_ready()
    server.signal(signal.SIGHUP)
    assert server.wait() == 0
    assert server.log("draining")
