"""Where the jobs of exports write."""

from __future__ import annotations

from pathlib import Path

from ml.finetuning.export_request import ExportJobRequest
from ml.finetuning.output import Output
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_files import SharedFiles
from ml.finetuning.shared_models import SharedOutput

__all__ = ["export_output"]

#: In the job's folder, where exports are not written to where all find them at once.
_OUTPUT = "output"


def export_output(
    request: ExportJobRequest,
    folder: Path,
    settings: TrainerSettings,
    shared: SharedFiles | None,
    *,
    maker: str,
) -> Output:
    """Return where an export's job writes, which has such a folder.

    Its exports belong to the job that made the model, as those of its training do. What is not
    whole yet has a name of its `maker`, a job and one of its attempts.
    """
    name, run_id = request.model_name, request.run_id
    if shared is None:
        return Output(settings.output_path, name, run_id, maker=maker)
    return SharedOutput(shared.files, folder / _OUTPUT, name, run_id, maker=maker)
