"""A full disk, spent memory, and anything else that a run can meet."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ml.errors import InvalidInput, OutOfMemory
from ml.finetuning import job
from ml.finetuning.failures import TrainingFailed, explained_failures
from ml.finetuning.request import TrainingParameters
from tests.support.finetuning import Workplace

PARAMETERS = TrainingParameters(max_seq_length=512, per_device_train_batch_size=8)


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 320 kB: one checkpoint of the small model has room there, two have not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=320k"):
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_ends_a_run_readably_and_it_goes_on_with_more_room(
    workplace: Workplace, small_disk: Path
) -> None:
    workplace.working = small_disk
    context = workplace.context("one")
    with pytest.raises(TrainingFailed, match=r"disk.* is full: free space.*\(save_total_limit"):
        job.run(context)  # type: ignore[arg-type]
    assert workplace.checkpoints() == ["checkpoint-3"]  # and no half of another

    assert mount(small_disk, "remount,size=8m")
    again = workplace.context("one", attempt=2)
    job.run(again)  # type: ignore[arg-type]
    assert [data["step"] for data in again.steps()] == [4, 5, 6, 7, 8]


def test_a_full_disk_is_told_from_the_words_of_the_libraries(small_disk: Path) -> None:
    tensor, file = torch.zeros(200_000), small_disk / "file"
    writers = (
        lambda: file.write_bytes(bytes(800_000)),
        lambda: torch.save(tensor, file),
        lambda: save_file({"a": tensor}, file),
    )
    for write in writers:
        with pytest.raises(TrainingFailed, match="is full"), explained_failures(PARAMETERS):
            write()


def test_spent_memory_says_what_to_lower() -> None:
    with pytest.raises(OutOfMemory) as caught, explained_failures(PARAMETERS):
        torch.empty(2**60, dtype=torch.uint8)
    assert "per_device_train_batch_size (now 8)" in str(caught.value)
    assert "max_seq_length (now 512)" in str(caught.value)
    with pytest.raises(OutOfMemory), explained_failures(PARAMETERS):
        bytearray(2**60)
    with pytest.raises(OutOfMemory), explained_failures(PARAMETERS):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_other_failures_stay_what_they_are() -> None:
    with pytest.raises(InvalidInput, match="nothing wrong"), explained_failures(PARAMETERS):
        raise InvalidInput("nothing wrong with the disk")
    with pytest.raises(FileNotFoundError), explained_failures(PARAMETERS):
        os.stat("/no/such/file")  # noqa: PTH116
