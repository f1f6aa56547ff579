"""What makes shared models and checkpoints known may be broken, or somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_checkpoints import SharedCheckpoints, shared_checkpoints
from ml.finetuning.shared_files import SharedFiles

BROKEN = ["{", "[]", '{"job": "j"}', '{"job": "j", "files": 1}']


@pytest.fixture
def files(tmp_path: Path) -> SharedFiles:
    settings = TrainerSettings(working_path=tmp_path / "here", files_url=f"file://{tmp_path}/there")
    found = SharedFiles.of(settings)
    assert found is not None
    return found


@pytest.mark.parametrize("outside", ["{root}/outside/x", "../../x"])
def test_a_model_writes_nothing_outside_its_own_folder(
    files: SharedFiles, tmp_path: Path, outside: str
) -> None:
    name = outside.format(root=tmp_path)
    lies = tmp_path.joinpath("there", "output", "m", name.lstrip("/"))
    lies.parent.mkdir(parents=True, exist_ok=True)
    lies.write_text("evil")
    files.files.write("models/m.json", f'{{"job": "j", "files": {{"{name}": 4}}}}'.encode())
    files.models.fetch("m")
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "here" / "copies" / "x").exists()
    assert not (tmp_path / "here" / "copies" / "output" / "m").exists()


@pytest.mark.parametrize("marker", BROKEN)
def test_a_model_whose_marker_is_broken_is_none(files: SharedFiles, marker: str) -> None:
    files.files.write("models/m.json", marker.encode())
    files.models.fetch("m")


@pytest.mark.parametrize("marker", BROKEN)
def test_a_checkpoint_whose_marker_is_broken_is_none(
    files: SharedFiles, tmp_path: Path, marker: str
) -> None:
    files.files.write("jobs/j/checkpoints/checkpoint-5/complete.json", marker.encode())
    assert shared_checkpoints(files.files, "j") == []
    copies = SharedCheckpoints(
        files.files, "j", tmp_path / "here", keep=2, beside=(), warn=lambda _: None
    )
    copies.fetch()
    assert copies.newest() is None
