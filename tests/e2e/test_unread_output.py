"""A service whose lines nobody takes any more works on, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import (
    CLIENT,
    PATIENCE_SECONDS,
    children_of,
    clean_environment,
    free_port,
    is_running,
    until,
)
from tests.support.workflows import Echo


@contextmanager
def a_full_disk() -> Iterator[tuple[int, Callable[[], None]]]:
    output = os.open("/dev/full", os.O_WRONLY)
    yield output, lambda: None
    os.close(output)


@contextmanager
def a_reader_that_ends() -> Iterator[tuple[int, Callable[[], None]]]:
    read, write = os.pipe()
    yield write, lambda: os.close(read)
    os.close(write)


@pytest.mark.parametrize("output", [a_full_disk, a_reader_that_ends])
@pytest.mark.parametrize("kind", ["granian", "hypercorn"])
def test_lines_that_cannot_be_written_change_nothing(
    kind: str, output: Callable[[], Iterator[tuple[int, Callable[[], None]]]]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [Path(sys.executable).parent / "serve", "classic", f"--bind=127.0.0.1:{port}"]
    with output() as (lines, end_reading):
        process = subprocess.Popen(
            [*command, "--workers=2", f"--server={kind}"],
            env=clean_environment(workflow_class=Echo),
            stdout=lines,
            stderr=lines,
        )
        try:
            ready = until(lambda: CLIENT.get(f"{url}/health/ready").status_code == 200, "ready")
            assert ready
            end_reading()
            for status, body in ((200, {"source": 1, "data": {"a": 1}}), (400, {"source": "x"})):
                assert CLIENT.post(f"{url}/service_output", json=body).status_code == status
            workers = until(lambda: len(w := children_of(process.pid)) == 2 and w, "two workers")
            os.kill(workers[0], signal.SIGKILL)  # which the supervisor has to tell of
            until(lambda: set(children_of(process.pid)) - set(workers), "another worker")
            assert process.poll() is None
            workers = children_of(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
            assert not any(map(is_running, workers))
        finally:
            for pid in (*children_of(process.pid), process.pid) if process.poll() is None else ():
                os.kill(pid, signal.SIGKILL)
            process.wait()
