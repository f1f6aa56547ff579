"""Logs are for people on a terminal and for programs elsewhere; open pages do not fill them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeApp, StartServer
from tests.support.processes import ROOT, clean_environment, free_port, until
from tests.support.workflows import Echo, Failing, LoadsWithABar

LogLines = Callable[[], list[dict[str, Any]]]


def on_a_terminal(workflow: type, **settings: str) -> str:
    """Return what a service shows on a terminal while it refuses one request."""
    ours, theirs = pty.openpty()
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).parent / "serve", "classic", f"--bind=127.0.0.1:{port}"],
        env=clean_environment(workflow_class=workflow, **settings),
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # So that Ctrl-C works where the tests were started with it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:  # the terminal's other end is gone
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(f"{url}/health/ready").status_code == 200, "it is ready")
        httpx.post(f"{url}/service_output", json={"source": 1, "data": "x"})
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        os.close(ours)
    return b"".join(shown).decode().replace("\r\n", "\n")


def test_a_terminal_shows_lines_and_tracebacks_to_be_read() -> None:
    shown = on_a_terminal(Failing)
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(
        r"^\d\d:\d\d:\d\d \[info +\] workflow_ready .*workflow=Failing", plain, re.MULTILINE
    )
    assert "\nTraceback (most recent call last):\n  File " in plain
    assert "{" not in plain.partition("Traceback")[0]


def test_json_lines_can_be_asked_for_on_a_terminal() -> None:
    lines = on_a_terminal(Failing, log_format="json").splitlines()
    assert "request_failed" in [json.loads(line)["event"] for line in lines]


def test_libraries_draw_no_progress_bars_between_the_lines() -> None:
    assert "it/s" not in on_a_terminal(LoadsWithABar)


def test_lines_for_people_can_be_asked_for_elsewhere(start_server: StartServer) -> None:
    server = start_server(Failing, log_format="console")
    until(lambda: server.get("/health/ready").status_code == 200, "it is ready")
    server.post("x")
    server.signal(signal.SIGINT)
    server.wait()
    assert "\nTraceback (most recent call last):\n  File " in server.stdout
    assert "\x1b[" not in server.stdout


@pytest.mark.parametrize(
    ("method", "path", "logged"),
    [
        ("GET", "/config", False),
        ("HEAD", "/", False),
        ("GET", "/no/such/page", True),
        ("POST", "/", True),
    ],
)
async def test_reads_that_succeed_are_not_logged(
    make_app: MakeApp, log_lines: LogLines, method: str, path: str, logged: bool
) -> None:
    app = await make_app(Echo)
    log_lines()
    await app.test_client().open(path, method=method)
    assert [line["event"] for line in log_lines()] == ["request"] * logged


def test_reads_are_logged_at_level_debug(start_server: StartServer) -> None:
    server = start_server(Echo, log_level="DEBUG")
    until(lambda: server.get("/config").status_code == 200, "it answers")
    until(lambda: server.log("request"), "it is logged")
    assert server.log("request")[0]["path"] == "/config"
