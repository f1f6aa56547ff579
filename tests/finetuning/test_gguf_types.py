"""Exports as GGUF in types other than bf16."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import gguf
import pytest

from ml.errors import UnprocessableInput
from ml.finetuning.export_request import ExportRequest
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.output import delete_model
from ml.finetuning.request import Export
from ml.jobs.context import Stopped
from ml.jobs.job import Job
from tests.finetuning.test_export_jobs import (
    LEARNING,
    Stopping,
    converter,  # noqa: F401 (a fixture)
    export,
    names,
    run,
)
from tests.support.disks import fill, small_disk
from tests.support.finetuning import Workplace

TYPES = [one.removeprefix("gguf_") for one in get_args(Export) if one.startswith("gguf_")]
#: Matrices of the small model: seven in each of two layers, the embedding, the output.
MATRICES, VECTORS = 16, 5


class FillsUp(Stopping):
    """Takes all room of a disk once something is told, until the block ends."""

    def __init__(self, job: Job, folder: Path, disk: Path, step: str, room: ExitStack) -> None:
        super().__init__(job, folder)
        self._disk, self._step, self._room = disk, step, room

    def event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002
        super().event(type, data)
        if self._step in data.get("message", ""):
            self._room.enter_context(fill(self._disk))


def test_each_type_is_made_beside_the_others_and_goes_with_its_model(
    workplace: Workplace,
) -> None:
    workplace.run(**LEARNING)
    result = run(export(workplace, *(f"gguf_{one}" for one in TYPES)))
    for one in TYPES:
        made = result["exports"][f"gguf_{one}"]
        assert (made["name"], list(made["files"])) == (
            f"results-gguf_{one}",
            [f"results.{one}.gguf"],
        )
        assert made["compared_with_adapter"]["divergence"] < (0.02 if one in ("f16", "q8_0") else 1)
        folder = workplace.output / made["name"]
        reader = gguf.GGUFReader(folder / f"results.{one}.gguf")
        kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
        wanted = {"F16": MATRICES} if one == "f16" else Counter(Q8_0=1) + Counter({one.upper(): 15})
        assert kinds == Counter(F32=VECTORS) + Counter(wanted)
        file_type = gguf.LlamaFileType[f"MOSTLY_{one.upper()}"]
        assert reader.fields["general.file_type"].contents() == file_type
    delete_model(workplace.output, "results")
    assert names(workplace.output) == []


def test_a_cancelled_rounding_leaves_nothing(workplace: Workplace) -> None:
    workplace.run()
    before = names(workplace.output)
    with pytest.raises(Stopped):
        run(export(workplace, "gguf_q8_0", word="Rounding its weights to q8_0"))
    assert names(workplace.output) == before


@pytest.mark.parametrize("step", ["Converting the merged model", "Rounding its weights"])
def test_a_disk_that_fills_up_is_told_and_the_job_goes_on_where_there_is_room(
    step: str, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.run()
    with small_disk(tmp_path / "disk", 8) as disk:
        shutil.copytree(workplace.output, disk, dirs_exist_ok=True)
        monkeypatch.setenv("OUTPUT_PATH", str(disk))
        before = names(disk)
        context = export(workplace, "gguf_q8_0")
        told = pytest.raises(TrainingFailed, match=r"the disk, .* is full: free space, and resume")
        with ExitStack() as room, told:
            run(FillsUp(context.job, context.folder, disk, step, room))
        assert names(disk) == before
        run(export(workplace, "gguf_q8_0", attempt=2))
        assert (disk / "results-gguf_q8_0" / "results.q8_0.gguf").is_file()


def test_another_type_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnprocessableInput) as told:
        ExportRequest.read({"exports": ["gguf_q4_k_m"]})
    for one in TYPES:
        assert f"'gguf_{one}'" in str(told.value)
