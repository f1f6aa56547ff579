"""`serve` with a workflow that cannot be set up, and signals while one is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.processes import Server, in_background, is_running, until
from tests.support.unloaded import REASON, FailsBehind, Gated, Refused, Unforeseen

LINE = f"classic_ml_inference_service cannot start: Refused could not be set up: {REASON}\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_what_only_another_configuration_mends_ends_it_with_code_2_and_one_line(
    start_server: StartServer, workers: int
) -> None:
    server = start_server(Refused, workers=workers, drain_delay_seconds=60)
    assert server.wait() == 2
    assert server.stderr == LINE
    assert [line["error"] for line in server.log("workflow_failed")] == [REASON]


def test_what_nobody_foresaw_is_logged_and_tried_again_like_a_crash(
    start_server: StartServer,
) -> None:
    server = start_server(Unforeseen)
    until(lambda: len(server.log("workflow_failed")) >= 2, "a second try")
    [first, second, *_] = server.stderr.splitlines()
    assert first.endswith("cannot start: Unforeseen could not be set up; see the log.")
    assert second.endswith("ended (exit code 1); it is replaced")
    assert "ZeroDivisionError" in server.log("workflow_failed")[0]["exception"]


def test_who_waits_is_told_before_it_ends(start_server: StartServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = start_server(FailsBehind, workflow_positional_args=[str(gate)])
    wait_for_a_worker(server)
    with in_background(lambda: server.post(1)) as replies:
        wait_for_a_waiting_request(server)
        gate.touch()
    assert replies[0].status_code == 503
    assert REASON in replies[0].json()["description"]
    assert server.wait() == 2


def test_a_worker_that_cannot_be_set_up_beside_others_ends_all_with_one_line(
    start_server: StartServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.write_text("once")
    server = start_server(FailsBehind, workers=2, workflow_positional_args=[str(gate)])
    assert server.wait() == 2
    assert len(server.log("workflow_ready")) == 1
    assert [line for line in server.stderr.splitlines() if REASON not in line] == []
    assert server.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_requests_wait_for_the_load_answers_them_and_ends_it(
    start_server: StartServer, number: int
) -> None:
    server = start_server(Gated, drain_delay_seconds=0)
    wait_for_a_worker(server)
    with in_background(lambda: server.post(1)) as replies:
        wait_for_a_waiting_request(server)
        server.signal(number)
        assert server.wait(20) == 0
    assert replies[0].status_code == 503
    assert replies[0].json()["description"] == "The service is shutting down."
    assert server.stderr == ""


def test_a_worker_killed_while_it_loads_is_replaced(start_server: StartServer) -> None:
    server = start_server(Gated)
    until(lambda: server.log("workflow_loading"), "it loads")
    [worker] = server.children()
    os.kill(worker, signal.SIGKILL)
    until(lambda: len(server.log("workflow_loading")) == 2, "another one loads")
    assert f"worker {worker} ended (killed by SIGKILL); it is replaced" in server.stderr


def test_a_killed_supervisor_takes_along_a_worker_that_loads(start_server: StartServer) -> None:
    server = start_server(Gated)
    wait_for_a_worker(server)
    [worker] = server.children()
    os.kill(server.process.pid, signal.SIGKILL)
    until(lambda: not is_running(worker), "the worker has ended")


def wait_for_a_waiting_request(server: Server) -> None:
    until(lambda: server.metrics()["requests_in_flight"] == 1, "a request waits")


def wait_for_a_worker(server: Server) -> None:
    until(lambda: server.get("/health/live").status_code == 200, "it is alive")
