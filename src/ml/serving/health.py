"""Whether the service can answer, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ml.errors import NotReady

__all__ = ["Health", "State"]


class State(StrEnum):
    """What the service is doing."""

    #: The workflow is loading.
    STARTING = "starting"
    #: Requests are answered.
    READY = "ready"
    #: Requests are answered, but the next one would be refused: all places are taken.
    BUSY = "busy"
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

    def ready(self) -> None:
        """The workflow is set up; a drain that has begun goes on."""
        if self.state is State.STARTING:
            self.state, self.reason, self.message = State.READY, "", ""

    def failed(self, reason: str, message: str) -> None:
        """The workflow cannot be used."""
        self.state, self.reason, self.message = State.FAILED, reason, message

    def drain(self) -> None:
        """The process is about to end."""
        self.state, self.reason = State.DRAINING, "shutting_down"
        self.message = "The service is shutting down."

    def require_loaded(self) -> None:
        """Raise `NotReady` unless the workflow is set up; a draining service still answers."""
        if self.state in (State.STARTING, State.FAILED):
            retry = 1 if self.state is State.STARTING else None
            raise NotReady(self.message, retry_after_seconds=retry)
