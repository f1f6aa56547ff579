"""Every test here runs under each server that `serve` knows."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.conftest import StartServer

SERVERS = ("granian", "hypercorn")
#: With the command that the documents name.
EVERY_SERVER = (*SERVERS, "hypercorn command")


@pytest.fixture(params=SERVERS)
def start_server(start_server: StartServer, request: pytest.FixtureRequest) -> StartServer:
    """Start real processes under one of the servers."""
    if request.param == "hypercorn command":
        return partial(start_server, command="hypercorn")

    def start(workflow_class: type | str, *options: str, **settings: Any) -> Any:
        return start_server(workflow_class, f"--server={request.param}", *options, **settings)

    return start
