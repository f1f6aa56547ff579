"""The application factory of every service."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import structlog
from quart import Quart, request

from ml import __version__
from ml.errors import (
    CONFIGURATION_EXIT_CODE,
    ConfigurationError,
    ServiceError,
    setup_exit_code,
)
from ml.extras import why_not_imported
from ml.serving.adapters import add_adapters
from ml.serving.admission import Admission
from ml.serving.auth import Keys
from ml.serving.availability import require_workflow
from ml.serving.batching import MicroBatcher
from ml.serving.browsers import Browsers
from ml.serving.documentation import add_documentation
from ml.serving.endpoint import Endpoint
from ml.serving.entry import Entry, NoWebSocket
from ml.serving.health import Health, WorkflowCheck
from ml.serving.hiding import hide_in_text
from ml.serving.intake import Intake
from ml.serving.logs import configure_logging
from ml.serving.models import add_models, models_of
from ml.serving.openai.routes import add_openai
from ml.serving.output import say
from ml.serving.pages.page import Page, prepare_pages
from ml.serving.reply import ErrorForm, error_reply
from ml.serving.routes import add_error_handlers, add_routes
from ml.serving.settings import ServingSettings, read_settings
from ml.serving.shared_metrics import share_between_workers
from ml.serving.tgi.routes import add_tgi
from ml.serving.turns import Turns
from ml.tracing import start_tracing, stop_tracing
from ml.workflows.faults import Faults
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.loading import load_workflow

__all__ = ["ServiceApp", "create_service"]

log = structlog.get_logger(__name__)

#: What a worker reads at once beside the requests in flight.
_MOST_BODIES, _MOST_BODIES_OF_FULL_SIZE = 1024, 8
_ACRONYMS = ("ezkl", "llm", "ml", "tgi")
_SETUP_WAITS = (1.0, 2.0, 5.0, 10.0)


def create_service(name: str, settings_class: type[ServingSettings]) -> ServiceApp:
    """Return a service's application, configured by its environment.

    Configuration faults are printed together, and the process ends with code 2.
    """
    _limit_math_threads()
    faults = Faults()
    settings = read_settings(settings_class, faults)
    workflow = faults.of(_load_workflow, settings) if settings is not None else None
    faults.of(start_tracing, name)
    try:
        faults.tell()
    except ConfigurationError as error:
        lines = "".join(f"  {line}\n" for line in hide_in_text(str(error)).splitlines())
        say(
            f"{name} cannot start with these settings:\n{lines}"
            f"`serve {name} --print-env` prints all of them."
        )
        raise SystemExit(CONFIGURATION_EXIT_CODE) from None
    # Without a fault, both are there.
    return ServiceApp(name, cast(ServingSettings, settings), cast(BaseInferenceWorkflow, workflow))


class ServiceApp(Quart):
    """A Quart application around one workflow.

    The workflow is set up in the background once the server runs, so that /health/live answers
    and signals are heard while a large model loads.
    """

    asgi_http_class = Entry
    asgi_websocket_class = NoWebSocket

    def __init__(
        self, name: str, settings: ServingSettings, workflow: BaseInferenceWorkflow
    ) -> None:
        super().__init__(name, static_folder=None)
        self.settings = settings
        self.workflow = workflow
        self.service_version = __version__
        self.health = Health()
        self.workflow_check = WorkflowCheck(workflow)
        self.admission = Admission(
            settings.max_in_flight,
            min(settings.max_wait_seconds, settings.request_timeout_seconds),
        )
        self.intake = Intake(
            most_bodies=_MOST_BODIES,
            most_bytes=_MOST_BODIES_OF_FULL_SIZE * settings.max_body_bytes,
            seconds=settings.body_timeout_seconds,
        )
        self.turns = Turns()
        self.keys = Keys(settings.api_keys)
        self.browsers = Browsers(
            settings.allowed_origins, settings.allowed_hosts, prefix=settings.prefix()
        )
        self.endpoints: dict[str, Endpoint] = {}
        #: Of each of them, what a body may be if it is no JSON.
        self.types_besides_json: dict[str, Collection[bytes]] = {}
        #: How failures look at an address, or below one that ends with a slash; else as ours do.
        self.error_forms: dict[str, ErrorForm] = {}
        #: How large bodies for a path may be, or for those below one that ends with a slash,
        #: where their views read them as they come.
        self.body_limits: dict[str, int] = {}
        configure_logging(settings.log_level, settings.log_format)
        share_between_workers()
        # These read the environment set a line above.
        from ml.serving.generation_metrics import GenerationMetrics
        from ml.serving.gpu_metrics import gpu_metrics
        from ml.serving.metrics import Metrics
        from ml.serving.models_metrics import ModelsMetrics

        self.metrics = Metrics()
        self.metrics.sources.append(gpu_metrics)
        #: Called once the workflow is set up.
        self.on_ready: Callable[[], None] | None = None
        #: Called once it is known that it cannot be, and `exit_code` says how to end. Without it
        #: the service stays, and tells all who ask.
        self.on_failed: Callable[[], None] | None = None
        self.exit_code = 0
        #: Whether the server shall wait for the workflow before it listens.
        self.loads_before_serving = False
        self._executor: ThreadPoolExecutor | None = None
        self._batcher: MicroBatcher | None = None
        self._setup_task: asyncio.Task[None] | None = None
        self.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
        self.config["BODY_TIMEOUT"] = settings.body_timeout_seconds
        self.before_serving(self._start)
        self.after_serving(self._stop)
        #: Those of the navigation, in its order.
        self.pages: list[Page] = []
        #: What pages load, by its address as pages have it.
        self.page_files: dict[str, Path] = {}
        add_error_handlers(self)
        prepare_pages(self)
        add_routes(self)
        require_workflow(self)
        add_documentation(self)
        if (language_model := workflow.text_generation) is not None:
            language_model.observer = GenerationMetrics(self.metrics.registry)
            add_openai(self, language_model, workflow.text_embedding)
            add_tgi(self, language_model)
            add_adapters(self, language_model)
        if (models := models_of(workflow)) is not None:
            models.observer = ModelsMetrics(self.metrics.registry)
            add_models(self, models)

    @property
    def title(self) -> str:
        """Return the name as people write it."""
        words = [word.upper() if word in _ACRONYMS else word for word in self.name.split("_")]
        return " ".join([words[0][0].upper() + words[0][1:], *words[1:]])

    def error_form(self, path: str) -> ErrorForm:
        """Return what writes failures for the clients of an address."""
        for place, form in self.error_forms.items():
            if path == place or (place.endswith("/") and path.startswith(place)):
                return form
        return error_reply

    def new_batcher(
        self, workflow: BaseInferenceWorkflow, at_work: Callable[[], int]
    ) -> MicroBatcher | None:
        """Return what batches a workflow's requests, None where they run singly.

        `at_work` counts those that are at work or wait. The event loop has to run.
        """
        if not workflow.can_batch or self.settings.max_batch_size == 1:
            return None
        return MicroBatcher(
            workflow,
            max_size=self.settings.max_batch_size,
            window_seconds=self.settings.batch_window_seconds,
            in_flight=at_work,
            metrics=self.metrics,
        )

    def begin_drain(self) -> None:
        """Say "not ready" from now on; what is in flight, and what still comes, is answered."""
        self.health.drain()
        log.info("draining", in_flight=self.admission.in_flight)

    async def handle_user_exception(self, error: Exception) -> Any:
        """Answer with a handler's reply, and keep what was wrong for the request's log line."""
        cast(dict[str, Any], request.scope)["error"] = error
        return await super().handle_user_exception(error)

    async def _start(self) -> None:
        self._executor = ThreadPoolExecutor(self.settings.max_concurrency, "workflow")
        self._batcher = self.new_batcher(self.workflow, self.admission.count)
        self.workflow.use(executor=self._executor, batcher=self._batcher)
        self._setup_task = asyncio.create_task(self._set_up_workflow(), name="workflow-setup")
        if self.loads_before_serving:
            await self._setup_task
            self.health.require_loaded()

    async def _set_up_workflow(self) -> None:
        name = type(self.workflow).__name__
        log.info("workflow_loading", workflow=name)
        started = time.perf_counter()
        try:
            await self._set_up_when_possible(name)
        except (Exception, SystemExit) as error:
            self._give_up(name, error)
            return
        seconds = time.perf_counter() - started
        # What is loaded now stays: without this, each collection of garbage looks through it again,
        # which takes a tenth of a second where torch is loaded, and everybody waits.
        gc.collect()
        gc.freeze()
        self.metrics.setup_seconds.set(seconds)
        self.metrics.ready.set(1)
        self.health.ready()
        log.info("workflow_ready", workflow=name, seconds=round(seconds, 3))
        if self.on_ready is not None:
            self.on_ready()

    def _give_up(self, name: str, error: BaseException) -> None:
        if isinstance(error, ImportError):
            error = ConfigurationError(why_not_imported(error))
        if isinstance(error, ConfigurationError | ServiceError):
            reason = hide_in_text("; ".join(str(error).splitlines()))
            message = f"{name} could not be set up: {reason}"
            log.error("workflow_failed", workflow=name, error=reason)
        else:
            message = f"{name} could not be set up; see the log."
            log.error("workflow_failed", workflow=name, exc_info=error)
        self.exit_code = setup_exit_code(error) or 1
        self.health.failed("workflow_setup_failed", message)
        if self.on_failed is not None:
            self.on_failed()

    async def _set_up_when_possible(self, name: str) -> None:
        """Set the workflow up, again and again while a server behind it is not there yet."""
        for wait_seconds in itertools.chain(_SETUP_WAITS, itertools.repeat(_SETUP_WAITS[-1])):
            try:
                await self.workflow.setup()
            except Exception as error:
                if setup_exit_code(error) is not None:
                    raise
                known = isinstance(error, ServiceError)
                reason = hide_in_text(str(error)) if known else type(error).__name__
                self.health.waiting("upstream_unavailable", f"{name} waits: {reason}")
                log.warning("workflow_waits", workflow=name, error=str(error))
                await asyncio.sleep(wait_seconds)
            else:
                return

    async def _stop(self) -> None:
        self.health.drain()
        if self._setup_task is not None:
            self._setup_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._setup_task
        if self._batcher is not None:
            self._batcher.close()
        await self.workflow.close()
        self.metrics.ready.set(0)
        await asyncio.to_thread(stop_tracing)
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _load_workflow(settings: ServingSettings) -> BaseInferenceWorkflow:
    """Return the workflow. A failure names the variables its arguments are read from."""
    try:
        return load_workflow(
            settings.workflow_class,
            settings.workflow_positional_args,
            settings.workflow_arguments(),
        )
    except ConfigurationError as error:
        variables = settings.variables()
        names = [variables[f"workflow_{kind}_args"] for kind in ("positional", "kw")]
        lines = [f"{', '.join(names)}: {line}" for line in str(error).splitlines()]
        first = next((e for e in settings.examples if e.variable in names), None)
        hint = [f"for example {first.variable}={first.value}"] if first else []
        raise ConfigurationError("\n".join([*lines, *hint])) from None


def _limit_math_threads() -> None:
    """Keep OpenMP from spinning one thread per core in every worker; `serve` sets it by workers.

    It has to stand in the environment before torch is loaded: `torch.set_num_threads` only holds
    for the thread that calls it, and models run in pool threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 4)))
