"""Which folders are checkpoints, and which of them stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml.finetuning.checkpoints import Checkpoints

FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def write(folder: Path, step: int, *, files: tuple[str, ...] = FILES) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in (*files, "trainer_state.json"):
        (checkpoint / name).write_text(f"{name} of {step}")
    return checkpoint


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def steps(checkpoints: Checkpoints) -> list[int]:
    return [one.step for one in checkpoints.complete()]


def test_a_folder_that_is_not_there_has_no_checkpoints(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None
    checkpoints.discard_incomplete()


def test_the_newest_is_that_with_the_most_steps_not_the_last_by_name(
    checkpoints: Checkpoints,
) -> None:
    for step in (10, 9, 100):
        write(checkpoints.folder, step)
        checkpoints.mark_complete(step, {"loss": step / 2})
    assert steps(checkpoints) == [9, 10, 100]
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.step, newest.numbers) == (100, {"loss": 50.0})


@pytest.mark.parametrize("damage", ["unmarked", "missing", "short", "marker", "optimizer"])
def test_a_checkpoint_with_anything_missing_is_none(checkpoints: Checkpoints, damage: str) -> None:
    write(checkpoints.folder, 1)
    checkpoints.mark_complete(1, {})
    broken = write(checkpoints.folder, 2, files=FILES[:1] if damage == "optimizer" else FILES)
    if damage != "unmarked":
        checkpoints.mark_complete(2, {})
    if damage == "missing":
        (broken / "trainer_state.json").unlink()
    if damage == "short":
        (broken / "optimizer.pt").write_text("")
    if damage == "marker":
        (broken / "complete.json").write_text('{"files"')
    (checkpoints.folder / "runs").mkdir()

    assert steps(checkpoints) == [1]
    checkpoints.discard_incomplete()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["checkpoint-1", "runs"]


def test_rotation_keeps_the_newest_and_the_best(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 3, 4):
        write(checkpoints.folder, step)
        checkpoints.mark_complete(step, {})
    checkpoints.rotate(best_step=1)
    assert steps(checkpoints) == [1, 3, 4]
    checkpoints.rotate()
    assert steps(checkpoints) == [3, 4]


def test_a_checkpoint_half_written_does_not_push_a_complete_one_out(
    checkpoints: Checkpoints,
) -> None:
    for step in (1, 2):
        write(checkpoints.folder, step)
        checkpoints.mark_complete(step, {})
    write(checkpoints.folder, 3)
    checkpoints.rotate()
    assert steps(checkpoints) == [1, 2]
