"""The work of a fine-tuning job, from its request to the tuned model's files."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.errors import UnprocessableInput
from ml.finetuning.backends.choice import Choice, choose_backend
from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.data.prepare import TrainingData, prepare
from ml.finetuning.data.report import DataReport
from ml.finetuning.data.row import RowSource
from ml.finetuning.data.tokenizer import load_tokenizer
from ml.finetuning.exports import Exporter, check_tools, unmergeable
from ml.finetuning.failures import TrainingFailed, explained_failures
from ml.finetuning.manifest import MANIFEST_FILE, files_of, software, write_manifest
from ml.finetuning.names import output_name
from ml.finetuning.outcome import Outcome, outcome_of
from ml.finetuning.output import Output
from ml.finetuning.queries.engine import QUERY_FILE
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.result_file import RESULT_FILE, write_results
from ml.finetuning.rows import open_rows
from ml.finetuning.run_facts import RunFacts
from ml.finetuning.run_log import LOG_FILE, METRICS_FILE, RunLog
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_checkpoints import SharedCheckpoints
from ml.finetuning.shared_files import SharedFiles
from ml.finetuning.shared_models import SharedOutput
from ml.finetuning.start import Start
from ml.finetuning.trackers import prepare_trackers, require_trackers
from ml.finetuning.train_along import TrainAlong, with_lora
from ml.finetuning.uploads import RESULTS, Uploads
from ml.finetuning.workers import Workers, require_places
from ml.jobs.context import JobContext, Stopped
from ml.jobs.event_type import EventType, phase_event
from ml.models.gpu import gpus_in_use

__all__ = ["run"]

#: In the job's folder: what its checkpoints were trained with.
_RUN_FILE = "run.json"
#: In the job's folder while it works.
_EXAMPLES = "examples"
#: In the job's folder, where the tuned model is not written to where all find it at once.
_OUTPUT = "output"
_TELL_SECONDS = 2.0
#: The phase in which it is told how far the data is.
_PREPARING = "preparing_data"


def run(context: JobContext) -> dict[str, Any]:
    """Fine-tune as the job asks, and return what came of it: names under `OUTPUT_PATH`, numbers.

    A job that ran before goes on from where it was. Raises `ml.jobs.context.Stopped` if it was
    asked to stop, else what `ml.finetuning.failures` and `ml.errors` have for what went wrong.
    """
    request = FinetuningRequest.model_validate(context.job.request)
    settings = TrainerSettings.from_environment()
    shared = SharedFiles.of(settings)
    output = _output(context, request, settings, shared)
    checkpoints = _checkpoints(context, request, shared)
    with explained_failures(request):
        if shared is not None:
            shared.models.fetch(request.model_name)
        start = Start.of(request.model_name, settings.models_path)
        start.require()
        choice = choose_backend(request, dtype=settings.dtype)
        require_places(request.num_workers, gpus=gpus_in_use())
        check_tools(request.exports)
        require_trackers(request.report_to or ())
        prepare_trackers(
            request.report_to or (),
            job_id=context.job.id,
            folder=context.folder,
            shared=settings.working_path,
        )
        output.claim(list(request.exports))
        try:
            work = _Work(context, request, settings, output, checkpoints, choice, start, shared)
            result = work.do()
        except BaseException:
            if checkpoints.newest() is None:  # there is nothing to go on from
                output.release()
            raise
    if shared is not None:  # all of it is where others find it
        shutil.rmtree(context.folder / _OUTPUT, ignore_errors=True)
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return result


def _output(
    context: JobContext,
    request: FinetuningRequest,
    settings: TrainerSettings,
    shared: SharedFiles | None,
) -> Output:
    name = output_name(request.output_dir)
    if shared is None:
        return Output(settings.output_path, name, context.job.id)
    return SharedOutput(shared.files, context.folder / _OUTPUT, name, context.job.id)


def _checkpoints(
    context: JobContext, request: FinetuningRequest, shared: SharedFiles | None
) -> Checkpoints:
    """Return the job's checkpoints, with those that it made on another host."""
    if shared is None:
        return Checkpoints.of_job(context.folder, keep=request.save_total_limit)

    def warn(message: str) -> None:
        context.event(EventType.LOG, {"level": "WARNING", "message": message})

    checkpoints = SharedCheckpoints(
        shared.files,
        context.job.id,
        context.folder,
        keep=request.save_total_limit,
        beside=(_RUN_FILE, QUERY_FILE, LOG_FILE, METRICS_FILE),
        warn=warn,
    )
    checkpoints.fetch()
    return checkpoints


@dataclass
class _Work:
    context: JobContext
    request: FinetuningRequest
    settings: TrainerSettings
    output: Output
    checkpoints: Checkpoints
    choice: Choice
    start: Start
    shared: SharedFiles | None

    @property
    def facts(self) -> RunFacts:
        return RunFacts(self.context.folder / _RUN_FILE)

    def do(self) -> dict[str, Any]:
        self._log(f"Backend {self.choice.backend.name}: {self.choice.reason}")
        self.choice.backend.prepare(self.request.num_workers)
        examples = self.context.folder / _EXAMPLES
        examples.mkdir(exist_ok=True)
        try:
            return self._do(examples)
        finally:
            shutil.rmtree(examples, ignore_errors=True)

    def _do(self, examples: Path) -> dict[str, Any]:
        source = self.start.source
        self._phase(_PREPARING, "Reading and tokenising the training data")
        tokenizer, shape = load_tokenizer(
            self.start.base, self.request.chat_template, adapter=self.start.adapter
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        rows = self._rows(self.request)
        data = prepare(
            rows,
            self.request,
            tokenizer,
            shape,
            file=examples / "train.arrow",
            tell=_Teller(self).tell,
        )
        self._tell_data(data.report)
        data = self._with_validation(data, tokenizer, examples / "validation.arrow")
        newest = self.checkpoints.newest()
        if newest is None:
            self.facts.begin()
        else:
            self._log(f"Going on from the checkpoint of step {newest.step}")
        self.facts.agree(
            data_sha256=data.report.sha256 or "",
            backend=self.choice.backend.name,
            adapter_sha256=self.start.sha256,
            validation_sha256=data.report.validation_sha256 or "",
        )
        began = time.monotonic()
        outcome = outcome_of(self.checkpoints, self.request)
        log = RunLog([self.context.folder, self.output.folder])
        if outcome is None:
            outcome = self._train(source, tokenizer, data, log)
        else:  # its folder may be another host's by now
            log.begin(after_step=outcome.steps)
        seconds = round(time.monotonic() - began, 3)
        self._phase("saving", "Saving the adapter")
        self.output.publish_adapter(outcome.adapter, self.start.base, tokenizer)
        checks = self._export(tokenizer, data)
        return self._finish(outcome, data, checks, seconds)

    def _rows(self, request: FinetuningRequest) -> RowSource:
        job_id, folder = self.context.job.id, self.context.folder
        return open_rows(request, self.settings, job_id, folder, self.heed, self.shared)

    def _with_validation(self, data: TrainingData, tokenizer: Any, file: Path) -> TrainingData:
        """Return the data with the examples of the data set for validation, if there is one."""
        request = self.request.of_validation()
        if request is None:
            return data
        rows = self._rows(request)
        held_out = prepare(rows, request, tokenizer, file=file, tell=_Teller(self).tell)
        self._log(f"Validation data: {held_out.report.sentence()}")
        found = {
            "validation_examples": len(held_out.train),
            "validation_sha256": held_out.report.sha256,
        }
        return TrainingData(data.train, held_out.train, data.report.model_copy(update=found))

    def _tell_data(self, report: DataReport) -> None:
        counts, level = report.counts(), "WARNING" if report.dropped else "INFO"
        event = {"level": level, "message": report.sentence(), "data": counts}
        self.context.event(EventType.LOG, event)
        self.context.progress(data=counts)

    def _train(self, source: str, tokenizer: Any, data: TrainingData, log: RunLog) -> Outcome:
        request = self.request
        self._phase("loading_model", f"Loading {self.start.base}")
        part = TrainAlong(
            self.context.folder, self.choice.backend, self.start, tokenizer, data, request
        )
        try:
            with Workers(request.num_workers, part) as workers:
                model = self._load(source)
                workers.meet(self.heed)
                self._train_model(model, tokenizer, data, log)
        except BaseException:
            # Of all times, a full disk has no room for half of one; nobody writes into it now.
            self.checkpoints.discard_incomplete()
            raise
        outcome = outcome_of(self.checkpoints, request)
        if outcome is None:
            raise TrainingFailed("the training ended without a complete checkpoint")
        return outcome

    def _load(self, source: str) -> Any:
        backend, request = self.choice.backend, self.request
        model = backend.load(source, request)
        quantized = getattr(model.config, "quantization_config", None) is not None
        if quantized and request.exports and backend.name != "unsloth":
            raise UnprocessableInput(unmergeable(self.start.base))
        self.facts.agree(
            device=model.device.type,
            dtype=str(model.dtype).removeprefix("torch."),
            workers=str(request.num_workers),
        )
        if self.start.adapter is not None:
            self._log(f"Training on from the tuned model {request.model_name}")
        return with_lora(backend, model, self.start, request)

    def _train_model(self, model: Any, tokenizer: Any, data: TrainingData, log: RunLog) -> None:
        # These import transformers: after the backend did.
        from ml.finetuning.callbacks import Reporter
        from ml.finetuning.samples import Sampler
        from ml.finetuning.training import Training, train

        request, number = self.request, self.request.num_workers
        by = f" by {number} workers" if number > 1 else ""
        self._phase("training", f"Training on {len(data.train)} examples{by}")
        reporter = Reporter(
            self.context, log, learning_rate=request.learning_rate, data=data.report.counts()
        )
        backend = self.choice.backend
        sampler = Sampler(self.context, backend, tokenizer, request)
        training = Training(backend, model, tokenizer, data, request, self.checkpoints)
        train(training, self.context, reporter, sampler)

    def _export(self, tokenizer: Any, data: TrainingData) -> dict[str, Any]:
        from ml.finetuning.likeness import probe_prompts

        self._phase("exporting", "Checking the adapter, and making the exports that were wished")
        prompts = probe_prompts(tokenizer, data.train)
        exporter = Exporter(
            self.choice.backend,
            self.start.base,
            self.output.folder,
            self.output,
            tokenizer,
            prompts,
            self.request,
            tell=self._tell_export,
            heed=self.heed,
        )
        adapter, checked = exporter.observe_adapter()
        checks: dict[str, Any] = {"adapter": {"name": self.output.name, **checked}}
        for export in dict.fromkeys(self.request.exports):
            checks[export] = exporter.export(export, adapter)
            self._log(f"Export {export}: {checks[export]['compared_with_adapter']}")
        return checks

    def _tell_export(self, message: str) -> None:
        self.heed()
        self._log(message)

    def _finish(
        self, outcome: Outcome, data: TrainingData, checks: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        files = files_of(self.output.folder)
        summary = {
            "model": self.output.name,
            "base_model": self.start.base,
            "trained_on_from": self.request.model_name if self.start.adapter else None,
            "backend": self.choice.backend.name,
            "backend_reason": self.choice.reason,
            "trained_tokens": outcome.trained_tokens,
            "data": data.report.counts(),
            "training": outcome.data(),
            "exports": checks,
        }
        report = data.report.model_dump(mode="json", exclude={"samples", "faults"})
        manifest = {
            **summary,
            **{name: self.facts.known().get(name) for name in ("device", "dtype")},
            "job_id": self.context.job.id,
            "request": self.request.model_dump(mode="json"),
            "seed": self.request.seed,
            "data": report,
            "software": software(),
            "files": files,
        }
        write_manifest(self.output.folder, manifest)
        digest = self.output.write_archive([*files, MANIFEST_FILE])
        archive = {"name": self.output.archive.name, "sha256": digest}
        uploads = (
            Uploads(self.settings.uploads_path) if self.shared is None else self.shared.uploads
        )
        numbers = uploads.scratch()
        write_results(self.context.folder / METRICS_FILE, numbers)
        results = [uploads.keep(numbers, RESULT_FILE, RESULTS)["id"]]
        return {
            **summary,
            "archive": archive,
            "manifest": MANIFEST_FILE,
            "train_seconds": seconds,
            "result_files": results,
        }

    def _phase(self, phase: str, message: str) -> None:
        self.heed()
        self.context.event(*phase_event(phase, message))

    def heed(self) -> None:
        if self.context.stop_request() is not None:
            raise Stopped("stopped between two phases")

    def _log(self, message: str) -> None:
        self.context.event(EventType.LOG, {"level": "INFO", "message": message})


class _Teller:
    """Tells, every now and then, how far the reading of the data is."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._told_at: float | None = None

    def tell(self, rows: int, dropped: int) -> None:
        """Take the rows so far; heeds a request to stop."""
        now = time.monotonic()
        self._told_at = self._told_at or now
        if now < self._told_at + _TELL_SECONDS:
            return
        self._told_at = now
        self._work.heed()
        message = f"Reading data: {rows} rows so far, {dropped} dropped"
        numbers = {"rows": rows, "dropped": dropped}
        self._work.context.event(*phase_event(_PREPARING, message, data=numbers))
        self._work.context.progress(data=numbers)
