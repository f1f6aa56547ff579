"""Adapters of a small model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ml.generation.adapters import Adapters
from tests.support.adapters import SHAPES, new_model, save_adapter


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, shape) in enumerate(SHAPES.items()):
        save_adapter(root / name, seed=seed, **shape)
    return root


@pytest.fixture
def root(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "adapters"))


@pytest.fixture
def model() -> Any:
    return new_model()


@pytest.fixture
def adapters(model: Any, root: Path) -> Adapters:
    return Adapters(model, root, max_adapters=4, max_rank=16)
