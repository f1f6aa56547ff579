"""A workplace with a small model and sixteen rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.finetuning import Workplace, save_small_llm, write_rows


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_small_llm(root / "small")
    return root


@pytest.fixture
def workplace(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    places = Workplace(tmp_path / "input", tmp_path / "output", tmp_path / "working")
    for name in ("input", "output", "working"):
        monkeypatch.setenv(f"{name.upper()}_PATH", str(getattr(places, name)))
    monkeypatch.setenv("MODELS_PATH", str(models))
    monkeypatch.setenv("TRAINER_DTYPE", "float32")
    places.input.mkdir()
    colours = ("red", "blue", "green", "white")
    pairs = [(f"Which colour has house {n}?", f"It is {colours[n % 4]}.") for n in range(16)]
    write_rows(places.input / "rows.jsonl", pairs)
    return places
