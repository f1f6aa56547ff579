"""A clean environment for every test, applications to talk to in process, and real servers."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as properties

from tests.support.distribution import WholeModules, first_the_long, starts_processes
from tests.support.processes import SERVICE, Server, clean_environment, free_port, service_variables
from tests.support.requests import eventually
from tests.support.shared import VARIABLE

MakeApp = Callable[..., Awaitable[Any]]
StartServer = Callable[..., Server]

# How long one example takes is up to the other test processes.
properties.register_profile("tests", deadline=None)
properties.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if starts_processes(item):
            item.add_marker("processes")
    first_the_long(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeModules:
    return WholeModules(config, log)


@pytest.fixture(scope="session", autouse=True)
def _run_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tell `made_once` the folder of this run, which each test process has a folder in."""
    own = tmp_path_factory.getbasetemp()
    os.environ[VARIABLE] = str(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine reaches a test."""
    clean = clean_environment()
    for name in list(os.environ):
        if name not in clean:
            monkeypatch.delenv(name)


@pytest.fixture
async def make_app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeApp]:
    """Start `classic_ml_inference_service` in this process, with a workflow class and settings."""
    from classic_ml_inference_service import create_app

    async with contextlib.AsyncExitStack() as stack:

        async def make(workflow_class: type | str, *, loaded: bool = True, **settings: Any) -> Any:
            for name, value in service_variables(workflow_class=workflow_class, **settings).items():
                monkeypatch.setenv(name, value)
            app = create_app()
            await stack.enter_async_context(app.test_app())
            if loaded:
                await eventually(lambda: app.health.state != "starting")
            return app

        yield make


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start real processes; all of them are ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            workflow_class: type | str,
            *options: str,
            command: str = "serve",
            workers: int = 1,
            directory: Path | None = None,
            port: int | None = None,
            environment: dict[str, str] | None = None,
            adopting: bool = False,
            ignoring_hangup: bool = False,
            **settings: Any,
        ) -> Server:
            port = port or free_port()
            service = f"{SERVICE}:create_app()" if command == "hypercorn" else SERVICE
            bind = f"--bind=127.0.0.1:{port}"
            server = Server(
                [command, service, bind, f"--workers={workers}", *options],
                port=port,
                directory=directory,
                environment=clean_environment(workflow_class=workflow_class, **settings)
                | (environment or {}),
                adopting=adopting,
                ignoring_hangup=ignoring_hangup,
            )
            return stack.enter_context(server)

        yield start


@pytest.fixture
def log_lines(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """Return what was logged since the last call, as objects."""
    sys.stdout.flush()

    def read() -> list[dict[str, Any]]:
        lines = capfd.readouterr().out.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    return read
