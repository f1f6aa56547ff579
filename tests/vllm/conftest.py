"""The engine of vLLM, in an environment of its own (`make test-vllm`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
HERE = find_spec("vllm") is not None

collect_ignore_glob = [] if HERE else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            # vLLM and what it brings say a lot of what is deprecated.
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker("vllm")
