"""Which tests start processes, and how several test processes share the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.processes import ROOT

__all__ = ["WholeModules", "first_the_long", "starts_processes"]

TESTS = ROOT / "tests"
#: What starts a server, a browser, an EVM, a database or an image, so that its user does.
FIXTURES = {
    "anvil", "browser", "postgresql", "serve_example", "start_server", "worker", "workshop",
}  # fmt: skip
#: In these a test needs no such fixture to start one.
FOLDERS = ("browser", "chain", "e2e", "images", "jobs", "proving", "services")
#: The modules that take longest, in the order in which they are to begin.
LONG = ("images",)


def starts_processes(item: pytest.Item) -> bool:
    """Return whether a test starts real processes."""
    return place(item.path).startswith(FOLDERS) or not FIXTURES.isdisjoint(item.fixturenames)


def place(path: Path) -> str:
    return path.relative_to(TESTS).as_posix()


def first_the_long(items: list[pytest.Item]) -> None:
    """Put what takes long in front, or the last process would work on it alone at the end."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        own = place(item.path)
        found = (number for number, name in enumerate(LONG) if own.startswith(name))
        return next(found, len(LONG)), item.get_closest_marker("processes") is None

    items.sort(key=rank)


class WholeModules(LoadScopeScheduling):
    """Gives a test process a whole module, in order, so that what it starts is started once.

    All modules about images are one: they share what they build.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # it goes by the number of tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return "images" if nodeid.startswith("tests/images/") else nodeid.partition("::")[0]
