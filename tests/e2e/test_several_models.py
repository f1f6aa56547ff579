"""Two workers, each with its own loads of several models."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.processes import Server, in_background, is_running, until
from tests.support.several_models import SEVERAL, AddsBehindGate, listed

ROW = {"dtype": "double", "values": [[10.0]]}
#: Connections that a worker, chosen by chance for each, does not get alone.
MANY = 24


class Gate:
    """Models that nobody has loaded until it opens."""

    def __init__(self, folder: Path) -> None:
        self._open, self._begun = folder / "open", folder / "begun"

    def model(self, number: float) -> dict[str, Any]:
        path = f"{AddsBehindGate.__module__}.{AddsBehindGate.__qualname__}"
        files = {"gate": str(self._open), "begun": str(self._begun)}
        return {"workflow_class": path, "number": number, **files}

    def open(self) -> None:
        self._open.touch()

    def at_it(self) -> set[int]:
        """Return the processes that have begun to load."""
        return set(map(int, self._begun.read_text().split())) if self._begun.exists() else set()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def ask(server: Server, number: int) -> float | int:
    """Return what a model makes of 10, or the status of a refusal."""
    reply = server.post({"model_id": f"m{number}", **ROW})
    answer: float = reply.json()["values"][0][0] if reply.is_success else reply.status_code
    return answer


def test_requests_that_alternate_between_more_models_than_have_room_are_all_answered(
    start_server: StartServer,
) -> None:
    models = {"models": listed(4), "max_loaded_models": 1}
    server = start_server(SEVERAL, workers=2, workflow_kw_args=models).wait_ready(2)
    turns = itertools.cycle([1, 2, 3, 4, 5])

    def ask_in_turn() -> list[tuple[int, float]]:
        return [(number, ask(server, number)) for number in itertools.islice(turns, 15)]

    with in_background(ask_in_turn, times=4) as results:
        pass
    answers = set(itertools.chain.from_iterable(results))
    assert answers == {(1, 11.0), (2, 12.0), (3, 13.0), (4, 14.0), (5, 404)}
    metrics = server.metrics()
    assert metrics["models_loaded"] <= 2
    assert metrics["model_evictions_total"] > 0
    resources = server.get("/service-resources").json()["compute_capability"][0]
    assert resources["models"] == ["m1", "m2", "m3", "m4"]


def test_a_worker_killed_while_it_loads_a_model_takes_only_its_own_requests_along(
    start_server: StartServer, gate: Gate
) -> None:
    models = {"models": {**listed(1), "m2": gate.model(2.0)}}
    server = start_server(SEVERAL, workers=2, workflow_kw_args=models).wait_ready(2)
    with in_background(lambda: ask(server, 2), times=MANY) as results:
        until(lambda: len(gate.at_it()) == 2, "both load the model")
        killed = gate.at_it().pop()
        os.kill(killed, signal.SIGKILL)
        until(lambda: not is_running(killed), "the worker is gone")
        assert ask(server, 1) == 11.0
        gate.open()
    lost = [one for one in results if isinstance(one, httpx.TransportError)]
    assert set(results) - set(lost) == {12.0}
    assert 0 < len(lost) < len(results)
    until(lambda: len(server.log("workflow_ready")) == 3, "a replacement is ready")
    assert {ask(server, 2) for _ in range(10)} == {12.0}


def test_a_signal_while_models_are_loaded_waits_for_them(
    start_server: StartServer, gate: Gate
) -> None:
    models = {"models": {"m2": gate.model(2.0)}}
    server = start_server(SEVERAL, workers=2, workflow_kw_args=models, drain_delay_seconds=0)
    server.wait_ready(2)
    with in_background(lambda: ask(server, 2), times=MANY) as results:
        until(lambda: len(gate.at_it()) == 2, "both load the model")
        until(lambda: server.metrics()["requests_in_flight"] >= MANY, "all wait")
        server.signal(signal.SIGTERM)
        until(lambda: len(server.log("draining")) == 2, "both drain")
        gate.open()
        assert server.wait() == 0
    assert results == [12.0] * MANY
    assert server.stderr == ""
