"""`make demo`: all services on real models, asked once, and an end that leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ml.serving.services import service_names
from tests.support.processes import (
    Server,
    children_of,
    clean_environment,
    free_port,
    is_running,
    until,
)

NAMES = ("classic", "llm", "tgi", "trainer", "ezkl")
#: It takes two minutes of a machine that does nothing else.
PATIENCE_SECONDS = 560


def demo(scratch: Path, **settings: str) -> Server:
    ports = {f"DEMO_{name.upper()}_PORT": str(free_port()) for name in NAMES}
    environment = clean_environment(TMPDIR=str(scratch), **ports, **settings)
    return Server(["python", "examples/demo.py"], port=0, environment=environment)


@pytest.mark.timeout(PATIENCE_SECONDS + 60)
def test_every_service_answers_rightly_and_no_log_has_a_traceback(tmp_path: Path) -> None:
    with demo(tmp_path, DEMO_ONCE="1") as running:
        code = running.wait(PATIENCE_SECONDS)
    shown = running.stdout
    assert code == 0, shown + running.stderr
    assert all(f"Starting {name} on port" in shown for name in service_names())
    assert re.findall(r"^(\w+) is ready", shown, re.MULTILINE) == list(NAMES)
    assert shown.count("POST http") == 9
    assert "step 20: loss " in shown
    assert '"valid": true' in shown
    assert "All answers are right." in shown
    assert "Traceback" not in shown + running.stderr
    assert list(tmp_path.glob("infernet-demo-*")) == []


@pytest.mark.timeout(240)
def test_ctrl_c_ends_all_that_the_demo_started(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        until(lambda: "Starting unsloth" in running.stdout, "it starts services", 60)
        started = [*descendants(running.process.pid)]
        running.signal(2)
        code = running.wait(120)
    assert len(started) >= 5
    assert [pid for pid in started if is_running(pid)] == []
    assert code == 0, running.stdout + running.stderr
    assert "Traceback" not in running.stdout + running.stderr
    assert list(tmp_path.glob("infernet-demo-*")) == []


def descendants(pid: int) -> list[int]:
    children = children_of(pid)
    return [*children, *(one for child in children for one in descendants(child))]
