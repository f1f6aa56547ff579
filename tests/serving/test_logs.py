"""Logs are JSON lines that can be followed by request, and hold no payload unless asked to."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ml.jobs.migration import migrate
from tests.conftest import MakeApp, StartServer
from tests.support.processes import until
from tests.support.requests import post
from tests.support.workflows import Echo, Failing, Shout

LogLines = Callable[[], list[dict[str, Any]]]


async def test_every_line_is_json_with_time_level_and_event(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    app = await make_app(Failing)
    await post(app, "x")
    app.begin_drain()
    logging.getLogger("some.library").warning("it said %s", "so")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    events = [line["event"] for line in lines]
    assert events == [
        "workflow_loading",
        "workflow_ready",
        "request_failed",
        "request",
        "draining",
        "it said so",
    ]
    for line in lines:
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
        assert line["level"] in ("debug", "info", "warning", "error")
    assert lines[-1]["logger"] == "some.library"


async def test_a_request_is_one_line_with_its_id(make_app: MakeApp, log_lines: LogLines) -> None:
    app = await make_app(Shout)
    log_lines()
    response = await post(app, "hello", headers={"X-Request-ID": "mine"})
    [line] = log_lines()
    assert response.headers["X-Request-ID"] == "mine"
    assert line["request_id"] == "mine"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/service_output", 200)
    assert line["milliseconds"] > 0


async def test_what_a_plain_hook_logs_has_its_requests_id(
    make_app: MakeApp, log_lines: LogLines
) -> None:
    app = await make_app("tests.support.workflows.Talkative")
    await post(app, 1, headers={"X-Request-ID": "mine"})
    [line] = [line for line in log_lines() if line["event"] == "from the hook"]
    assert line["request_id"] == "mine"


async def test_requests_need_not_be_logged(make_app: MakeApp, log_lines: LogLines) -> None:
    app = await make_app(Shout, log_requests=False)
    log_lines()
    await post(app, "hello")
    assert log_lines() == []


async def test_probes_are_not_logged(make_app: MakeApp, log_lines: LogLines) -> None:
    client = (await make_app(Shout)).test_client()
    log_lines()
    for path in ("/health/live", "/health/ready", "/metrics", "/service-resources"):
        await client.get(path)
    assert log_lines() == []


@pytest.mark.parametrize("data", ["a private prompt", {"wrong": "a private prompt"}])
async def test_payloads_are_not_logged_even_when_a_request_fails(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], data: Any
) -> None:
    app = await make_app(Shout, log_level="DEBUG")
    await post(app, data)
    await post(app, data, source=5)
    await post(app, data, source=0)
    output = "".join(capfd.readouterr())
    assert "/service_output" in output
    assert "private" not in output.lower()


async def test_payloads_are_logged_when_asked_to(make_app: MakeApp, log_lines: LogLines) -> None:
    app = await make_app(Echo, log_payloads=True)
    await post(app, "a prompt", headers={"X-Request-ID": "mine"})
    [line] = [line for line in log_lines() if line["event"] == "payload"]
    assert "a prompt" in line["body"]
    assert line["request_id"] == "mine"


def test_the_level_is_a_setting(start_server: StartServer) -> None:
    server = start_server(Failing, log_level="ERROR")
    until(lambda: server.get("/health/ready").status_code == 200, "it is ready")
    server.post("x")
    server.signal(signal.SIGINT)
    server.wait()
    assert [json.loads(line)["event"] for line in server.stdout.splitlines()] == ["request_failed"]


async def test_how_tables_are_made_is_not_logged(
    make_app: MakeApp, log_lines: LogLines, tmp_path: Path
) -> None:
    await make_app(Echo)
    migrate(f"sqlite:///{tmp_path}/jobs.sqlite")
    assert [line["event"] for line in log_lines()] == ["workflow_loading", "workflow_ready"]
