"""What the tests are shared by names things that there are."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.support.distribution import STARTERS, dotted_name


@pytest.mark.parametrize("name", sorted(STARTERS))
def test_what_starts_processes_is_known_by_the_name_that_it_has(name: str) -> None:
    assert dotted_name(found(name)) == name


def found(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
