"""The work of an export of a tuned model after its training."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ml.errors import NotFound
from ml.finetuning.backends.choice import choose_backend
from ml.finetuning.data.tokenizer import load_tokenizer
from ml.finetuning.export_output import export_output
from ml.finetuning.export_request import ExportJobRequest
from ml.finetuning.exports import Exporter, check_tools, number_of_steps, require_room
from ml.finetuning.failures import explained_failures
from ml.finetuning.output import Output
from ml.finetuning.request import Export
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_files import SharedFiles
from ml.finetuning.start import Start
from ml.jobs.context import JobContext, Stopped
from ml.jobs.event_type import EventType, phase_event

__all__ = ["run"]

#: In the job's folder: what it has made so far.
_MADE = "exports.json"


def run(context: JobContext) -> dict[str, Any]:
    """Make the exports, and return for each its name, its files, and how like the adapter it is.

    A job that ran before goes on behind the last export that is whole. Raises
    `ml.jobs.context.Stopped` if it was asked to stop, else what `ml.finetuning.failures` and
    `ml.errors` have for what went wrong.
    """
    request = ExportJobRequest.model_validate(context.job.request)
    settings = TrainerSettings.from_environment()
    shared = SharedFiles.of(settings)
    maker = f"{context.job.id}-{context.job.attempt}"
    output = export_output(request, context.folder, settings, shared, maker=maker)
    with explained_failures(request.parameters(), trains=False):
        if shared is not None:
            shared.models.fetch(request.model_name)
        start = Start.of(request.model_name, settings.models_path)
        if start.adapter is None:
            raise NotFound(f"the tuned model {request.model_name!r} is deleted meanwhile")
        start.require()
        work = _Work(context, request)
        try:
            return work.do(output, start.base, start.adapter, settings)
        finally:
            output.discard_partial(request.exports)
            if shared is not None:  # what is whole is where others find it
                shutil.rmtree(output.root, ignore_errors=True)


class _Work:
    def __init__(self, context: JobContext, request: ExportJobRequest) -> None:
        self._context = context
        self._request = request
        self._file = context.folder / _MADE
        self._steps, self._total = 0, 1

    def do(
        self, output: Output, base: str, adapter: Path, settings: TrainerSettings
    ) -> dict[str, Any]:
        parameters = self._request.parameters()
        choice = choose_backend(parameters, dtype=settings.dtype)
        check_tools(self._request.exports)
        made = {name: one for name, one in self._made().items() if output.has_export(name)}
        left = [export for export in self._request.exports if export not in made]
        if self._context.job.attempt == 1:  # else it may be one that was not noted any more
            output.require_no_export(left)
        output.claim_exports(left)
        require_room(output.root, base, left)
        self._total = number_of_steps(left)
        choice.backend.prepare()
        from ml.finetuning.likeness import probe_prompts

        tokenizer, _ = load_tokenizer(base, adapter=adapter)
        prompts = probe_prompts(tokenizer)
        exporter = Exporter(
            choice.backend,
            base,
            adapter,
            output,
            tokenizer,
            prompts,
            parameters,
            tell=self._tell,
            heed=self._heed,
        )
        observed, _ = exporter.observe_adapter()
        for export in left:
            made[export] = exporter.export(export, observed)
            self._file.write_text(json.dumps(made))
            self._log(f"Export {export}: {made[export]['compared_with_adapter']}")
        return {"model": self._request.model_name, "run_id": self._request.run_id, "exports": made}

    def _made(self) -> dict[Export, Any]:
        with suppress(OSError, ValueError):
            return dict(json.loads(self._file.read_text()))
        return {}

    def _tell(self, message: str) -> None:
        self._heed()
        done = {"progress": round(100 * self._steps / self._total, 2), "phase": message}
        self._steps += 1
        self._context.event(*phase_event("exporting", message, progress=done["progress"]))
        self._context.progress(**done)

    def _heed(self) -> None:
        if self._context.stop_request() is not None:
            raise Stopped("stopped in mid-export")

    def _log(self, message: str) -> None:
        self._context.event(EventType.LOG, {"level": "INFO", "message": message})
