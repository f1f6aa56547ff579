"""What the tests of inference workflows share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out of the tests."""
    for name in ("TORCH_MODEL_FILE_NAME", "USE_JIT"):
        monkeypatch.delenv(name, raising=False)
