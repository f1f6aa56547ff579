"""Fine-tunes language models as jobs, and answers with what was tuned."""

from __future__ import annotations

import asyncio
import os
from functools import cached_property
from typing import TYPE_CHECKING

from ml.caller import is_cancelled
from ml.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    ServiceError,
    UnprocessableInput,
)
from ml.finetuning.model_exports import ModelExports
from ml.finetuning.names import output_name, same_name
from ml.finetuning.request import FinetuningRequest, QueryParams
from ml.finetuning.request_body import read_request
from ml.finetuning.run_log import LOG_FILE, RunLog, entries_of
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.trackers import require_trackers, variables_of
from ml.finetuning.tuned_models import TunedModels
from ml.finetuning.uploads import Uploads, is_file_id
from ml.finetuning.workers import require_places
from ml.generation.language_model import LanguageModel
from ml.infernet.text import decode_texts, encode_text
from ml.jobs.engine import JobEngine
from ml.jobs.executors.choice import EXECUTORS
from ml.jobs.job import IllegalTransition, Job, new_job_id
from ml.json_text import JsonObject, read_json
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.models.gpu import gpus_in_sight
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.training.trainer_arguments import read_trainer_arguments

if TYPE_CHECKING:
    from ml.finetuning.checkpoints import Checkpoint
    from ml.finetuning.data.report import DataReport
    from ml.finetuning.offer import Offer
    from ml.finetuning.shared_files import SharedFiles
    from ml.jobs.remote_files import RemoteFiles
    from ml.jobs.store import JobStore

__all__ = ["FINETUNING", "UnslothTrainerWorkflow"]

#: The kind of these jobs: the module that runs them.
FINETUNING = "ml.finetuning.job"
_LOOKS_AT_ONCE = 2


class UnslothTrainerWorkflow(BaseInferenceWorkflow):
    """Queues fine-tuning jobs, which run in processes of their own.

    Its input is a request of `/finetune` or `/train`, or `{"job_id": …}`; its output the job's
    state. On-chain `(string model, string dataset, string params)`, the last as JSON, gives
    `(string job_id)`.

    `model` is the base of the tuned models that this service answers with, a hub name, a folder or
    the embedded one; None answers with none. The other arguments are those of `TrainerSettings`
    and further `LanguageModelArguments`; `dtype` is that of the training.
    """

    extra = "trainer"
    about = (
        "Trains language models on examples of your own, and answers with what they have learned."
    )
    has_form = False

    def __init__(self, model: str | None = None, **arguments: object) -> None:
        super().__init__()
        checked, inference = read_trainer_arguments(model, arguments)
        self.settings: TrainerSettings = checked
        self._shared = self._shared_files()
        self._looks = asyncio.Semaphore(_LOOKS_AT_ONCE)
        #: What queues and runs the jobs.
        self.job_engine = JobEngine(
            checked.working_path,
            checked,
            environment={**checked.environment(), **variables_of(os.environ)},
            files_url=checked.files_url,
            on_end=self._job_ended,
        )
        #: What queues exports of tuned models with the trainings.
        self.exports = ModelExports(checked, self.job_engine, self._shared)
        #: What was tuned, and its files.
        self.tuned = TunedModels(checked, self.job_engine, self._shared)
        self._language_model: LanguageModel | None = None
        if model is not None:
            self._language_model = LanguageModel(inference)

    @property
    def text_generation(self) -> LanguageModel | None:
        """The tuned models on their base."""
        return self._language_model

    @property
    def jobs(self) -> JobStore:
        """The records of all jobs. Raises `NotReady` before the workflow is set up."""
        return self.job_engine.store

    @property
    def shared_files(self) -> RemoteFiles | None:
        """The files that its hosts share, if they do."""
        return None if self._shared is None else self._shared.files

    @cached_property
    def uploads(self) -> Uploads:
        """The files that are known by an id."""
        return self._shared.uploads if self._shared else Uploads(self.settings.uploads_path)

    async def do_setup(self) -> None:
        """Open the store, load the base model, and take up the queue."""
        self._require_trackers()
        await self.in_thread(self._make_folders)
        if self._shared is not None:
            await self.in_thread(self._shared.files.check)
        try:
            await self.job_engine.open()
            if self._language_model is not None:
                await self.in_thread(self._language_model.load)
                if self._shared is not None and self._language_model.adapters is not None:
                    self._language_model.adapters.source = self._shared.models
            await self.job_engine.start()
        except BaseException:
            await self.do_close()
            raise

    async def do_close(self) -> None:
        """Let running jobs save, and close the store."""
        await self.job_engine.close()
        if self._language_model is not None:
            await self.in_thread(self._language_model.close)

    def example_input(self) -> JsonObject:
        """Return a training of the example's file, which README.md puts under INPUT_PATH."""
        return {
            "model_name": EMBEDDED_LLM,
            "dataset_name": "ostwick_harbour.jsonl",
            "output_dir": "my-model",
            "max_steps": 20,
        }

    async def do_run_model(self, preprocessed_data: object) -> JsonObject:
        """Return the state of a job: of the one that is asked for, or of a new one."""
        if isinstance(preprocessed_data, dict) and set(preprocessed_data) == {"job_id"}:
            job = await self.jobs.get(str(preprocessed_data["job_id"]))
        else:
            job = await self.submit(read_request(preprocessed_data))
        return {
            "job_id": job.id,
            "status": job.state.value,
            "progress": job.progress,
            "result": job.result,
            "reason": job.reason,
        }

    def decode_onchain(self, data: bytes) -> JsonObject:
        """Return the request in `abi.encode(string model, string dataset, string params)`."""
        try:
            model, dataset, params = decode_texts(data, "model", "dataset", "params")
            given = read_json(params or "{}")
        except ValueError as error:  # InvalidInput is one
            raise InvalidInput(
                "data: give abi.encode(string model, string dataset, string params), the last as "
                f"a JSON object: {error}"
            ) from None
        if not isinstance(given, dict):
            raise InvalidInput("data: the params are no JSON object")
        return {**given, "model_name": model, "dataset_name": dataset}

    def encode_onchain(self, output: JsonObject, input_data: object) -> bytes:
        """Return `abi.encode(string job_id)`."""
        return encode_text(str(output["job_id"]))

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        models = list(self.settings.allowed_models)
        return {"id": "ml", "type": "trainer", "task": ["fine_tuning"], "models": models}

    # --- jobs ---------------------------------------------------------------------------------

    async def submit(self, request: FinetuningRequest, *, job_id: str | None = None) -> Job:
        """Queue a job, as `submit_and_tell` does, and return it."""
        return (await self.submit_and_tell(request, job_id=job_id))[0]

    async def submit_and_tell(
        self, request: FinetuningRequest, *, job_id: str | None = None
    ) -> tuple[Job, DataReport | None]:
        """Queue a job whose data was looked at first, and return it with what the look found.

        Of a query it is judged whether it can be run; its rows are not looked at. Raises
        `UnprocessableInput` or `UnusableData` for what cannot be trained; nothing is queued then.
        """
        self._require_setup()
        if request.query_params is not None:
            from ml.finetuning.queries.signature import check_signature

            check_signature(request.query_params, self.settings.query_signers)
            await self.in_thread(self._judge_query, request.query_params)
        self.settings.require_heeded(request.resources)
        if request.report_to is None:
            request = request.model_copy(update={"report_to": list(self.settings.report_to)})
        if not EXECUTORS[self.settings.executor].is_elsewhere:
            require_places(request.num_workers, gpus=gpus_in_sight())
            require_trackers(request.report_to or ())
        job_id = job_id or new_job_id("train")
        request = request.model_copy(update={"output_dir": self._output_of(request, job_id)})
        await self._require_free(request)
        request = await self.in_thread(self._feasible, request)
        report = None
        if request.dataset_name is not None:
            report = await self._require_usable(request)
        if (validation := request.of_validation()) is not None:
            try:
                await self._require_usable(validation)
            except ServiceError as error:
                fault = error.description.removeprefix("dataset_name: ")
                error.description = f"validation_dataset_name: {fault}"
                raise
        job = await self.jobs.create(FINETUNING, request.model_dump(mode="json"), job_id)
        return job, report

    async def _job_ended(self, job: Job) -> None:
        await self.exports.ended(job)

    def _judge_query(self, query: QueryParams) -> None:
        """Raise what the embedded engine has against a query; a remote one judges by itself."""
        from ml.finetuning.queries.embedded import EmbeddedQueryEngine
        from ml.finetuning.queries.results import QueryResults

        if not self.settings.query_engine_url:
            results = QueryResults(self.settings.queries_path)
            if self._shared is not None:
                self._shared.fetch_databases()
            EmbeddedQueryEngine(self.settings.data_path, results).judge(query, _stay)

    async def _require_usable(self, request: FinetuningRequest) -> DataReport:
        report = await self.examine(request)
        if report.refusal is not None:
            from ml.finetuning.data.report import UnusableData

            raise UnusableData(report.refusal, report=report)
        return report

    async def delete_model(self, name: str) -> None:
        """Remove a tuned model's files; answers that it is making go on.

        Raises `NotFound` for a name that has none, `InvalidInput` for the base model's, and
        `IllegalTransition` while a job needs it.
        """
        self._require_setup()
        model = self._language_model
        if model is not None:
            await self.in_thread(model.require_model, name)
            if name == model.served_name:
                raise InvalidInput(f"model: {name!r} is the base model, which is not deleted here")
        await self.require_unneeded(name)
        if model is not None and model.adapters is not None:
            await self.in_thread(model.adapters.unload, name)
        await self.in_thread(self.tuned.delete, name)

    async def require_unneeded(self, name: str) -> None:
        """Raise `IllegalTransition` while a job that has not ended needs a file or a model."""
        needs = ("dataset_name", "validation_dataset_name", "model_name", "output_dir")
        for job in await self.jobs.unfinished():
            if name in (job.request.get(need) for need in needs):
                raise IllegalTransition(f"job {job.id}, which is {job.state}, needs {name!r}")

    async def examine(self, request: FinetuningRequest) -> DataReport:
        """Return what training would find in the request's data set; trains nothing."""
        if request.dataset_name is None:
            raise UnprocessableInput("dataset_name: only data sets can be looked at beforehand")
        async with self._looks:
            return await self.in_thread(self._examine, request)

    def offer(self) -> Offer:
        """Return what of its own the service has for a run to start from; takes its time."""
        from ml.finetuning.offer import Offer

        return Offer(self.settings, self._shared)

    def _feasible(self, request: FinetuningRequest) -> FinetuningRequest:
        """Return the request as its job will have it.

        Raises `UnprocessableInput` for what is known to fail, which takes seconds at most.
        """
        from ml.finetuning.feasibility import require_feasible
        from ml.finetuning.start import Start

        if self._shared is not None:
            self._shared.models.fetch(request.model_name)
        start = Start.of(request.model_name, self.settings.models_path)
        allowed = self.settings.allowed_models
        if allowed and start.base not in allowed:
            known = ", ".join(allowed)
            raise UnprocessableInput(f"model_name: {request.model_name!r} is none of {known}")
        start.require()
        request = start.fitted(request)
        require_feasible(request, start)
        return request

    def _examine(self, request: FinetuningRequest) -> DataReport:
        from ml.finetuning.data.look_process import look

        request = self._feasible(request)
        name = str(request.dataset_name)
        if self._shared is not None:
            self._shared.fetch_dataset(name)
        rows = self.settings.uploads_path if is_file_id(name) else self.settings.data_path
        return look(request, rows, self.settings.models_path, _stay)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return the checkpoints of a job that are kept to go on from, oldest first."""
        from ml.finetuning.checkpoints import Checkpoints
        from ml.finetuning.shared_checkpoints import shared_checkpoints

        if self._shared is not None:
            return shared_checkpoints(self._shared.files, job_id)
        return Checkpoints.of_job(self.job_engine.jobs_folder / job_id).complete()

    def logs(self, job_id: str, number: int) -> list[JsonObject]:
        """Return the newest entries of a job's log, oldest first.

        Where the hosts share no folder, it goes to the newest checkpoint.
        """
        if self._shared is not None:
            from ml.finetuning.shared_checkpoints import shared_text

            return entries_of(shared_text(self._shared.files, job_id, LOG_FILE))[-number:]
        return RunLog([self.job_engine.jobs_folder / job_id]).newest(number)

    def _output_of(self, request: FinetuningRequest, job_id: str) -> str:
        """Return the tuned model's name; the document's default would be the same for all jobs."""
        name = output_name(request.output_dir)
        return job_id if name == "results" else name

    async def _require_free(self, request: FinetuningRequest) -> None:
        """Raise `UnprocessableInput` for a name under which nobody could reach what comes of it."""
        from ml.finetuning.output import Output, names_made
        from ml.models.local_models import NAMES_OF_ANY_MODEL, models_here

        name = request.output_dir
        bases = {request.model_name, *await self.in_thread(models_here), *NAMES_OF_ANY_MODEL}
        if self._language_model is not None:
            bases.add(self._language_model.served_name)
        if base := same_name([name], bases):
            raise UnprocessableInput(
                f"output_dir: {base!r} is the name of a base model, which would be asked instead "
                "of the tuned one; take another name"
            )
        made = Output(self.settings.models_path, name, "").names(request.exports)
        if there := same_name(made, await self.in_thread(self.tuned.taken)):
            raise UnprocessableInput(f"output_dir: there is a model {there!r} already")
        for job in await self.jobs.unfinished():
            if theirs := same_name(made, names_made(job.request)):
                raise UnprocessableInput(f"output_dir: job {job.id} makes {theirs!r}")

    def _shared_files(self) -> SharedFiles | None:
        if self.settings.files_url is None:
            return None
        from ml.finetuning.shared_files import SharedFiles

        return SharedFiles.of(self.settings)

    def _require_trackers(self) -> None:
        if not EXECUTORS[self.settings.executor].is_elsewhere:
            try:
                require_trackers(self.settings.report_to)
            except UnprocessableInput as error:
                raise ConfigurationError(error.description) from None

    def _make_folders(self) -> None:
        settings = self.settings
        for path in (settings.models_path, settings.working_path, settings.uploads_path):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be made: {error.strerror}") from error
        if settings.files_url is not None:
            settings.data_path.mkdir(parents=True, exist_ok=True)
        elif not settings.input_path.is_dir():
            raise ConfigurationError(f"INPUT_PATH: there is no folder {settings.input_path}")


def _stay() -> None:
    if is_cancelled():
        raise DeadlineExceeded("nobody waits for the answer any more")
