"""Whether the service can answer, and if not, why."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from ml.errors import NotReady, ServiceError
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

__all__ = ["Health", "State", "WorkflowCheck"]

log = structlog.get_logger(__name__)

_CHECK_EVERY_SECONDS = 5.0
_CHECK_WITHIN_SECONDS = 3.0


class State(StrEnum):
    """What the service is doing."""

    #: The workflow is loading.
    STARTING = "starting"
    #: Requests are answered.
    READY = "ready"
    #: Requests are answered, but the next one has to wait: all places are taken.
    BUSY = "busy"
    #: What the workflow needs is not there, such as a server behind it; requests are tried still.
    UNAVAILABLE = "unavailable"
    #: The workflow could not be loaded; the reason says why.
    FAILED = "failed"
    #: SIGTERM came: what is in flight is finished, then the process ends.
    DRAINING = "draining"


@dataclass
class Health:
    """The state of one worker, with a reason for a machine and a sentence for a person."""

    state: State = State.STARTING
    reason: str = "workflow_loading"
    message: str = "The workflow is loading."
    #: Whether the workflow is set up; also while the process is about to end.
    is_loaded: bool = False
    #: Whether waiting for the workflow has an end: it is there, or will not be.
    _is_decided: asyncio.Event = field(default_factory=asyncio.Event)

    def ready(self) -> None:
        """The workflow is set up; a drain that has begun goes on."""
        self.is_loaded = True
        if self.state is State.STARTING:
            self.state, self.reason, self.message = State.READY, "", ""
        self._is_decided.set()

    def waiting(self, reason: str, message: str) -> None:
        """The workflow cannot be set up yet."""
        if self.state is State.STARTING:
            self.reason, self.message = reason, message

    def failed(self, reason: str, message: str) -> None:
        """The workflow cannot be used."""
        self.state, self.reason, self.message = State.FAILED, reason, message
        self._is_decided.set()

    def drain(self) -> None:
        """The process is about to end; why it failed, if it did, is still told."""
        if self.state is not State.FAILED:
            self.state, self.reason = State.DRAINING, "shutting_down"
            self.message = "The service is shutting down."
        self._is_decided.set()

    def require_loaded(self) -> None:
        """Raise `NotReady` unless the workflow is set up; a draining service still answers."""
        if not self.is_loaded:
            retry = 1 if self.state is State.STARTING else None
            raise NotReady(self.message, retry_after_seconds=retry)

    def require_hope(self) -> None:
        """Raise `NotReady` where waiting for the workflow is of no use."""
        if self._is_decided.is_set():
            self.require_loaded()

    async def loaded(self) -> None:
        """Wait for the workflow. Raises `NotReady` as soon as it is known not to come."""
        await self._is_decided.wait()
        self.require_loaded()


class WorkflowCheck:
    """Asks a workflow whether it can answer, every few seconds at most, whoever wants to know."""

    def __init__(self, workflow: BaseInferenceWorkflow) -> None:
        self._workflow = workflow
        self._lock = asyncio.Lock()
        self._checked = float("-inf")
        self._fault = ""

    async def fault(self) -> str:
        """Return why the workflow cannot answer at the moment; empty if it can."""
        if not self._workflow.can_check or not self._workflow.is_setup:
            return ""
        async with self._lock:
            if time.monotonic() - self._checked > _CHECK_EVERY_SECONDS:
                self._fault = await self._ask()
                self._checked = time.monotonic()
            return self._fault

    async def _ask(self) -> str:
        try:
            async with asyncio.timeout(_CHECK_WITHIN_SECONDS):
                await self._workflow.check()
        except ServiceError as error:
            return error.description
        except TimeoutError:
            return f"The workflow's own check took over {_CHECK_WITHIN_SECONDS:g} seconds."
        except Exception:
            log.exception("workflow_check_failed")
            return "The workflow's own check failed; see the log."
        return ""
