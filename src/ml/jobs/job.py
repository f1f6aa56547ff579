"""What a job is: a frozen record, its states, and the events that it left."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ml.errors import ServiceError

__all__ = ["IllegalTransition", "Job", "JobEvent", "JobState", "StopRequest", "new_job_id"]

#: What a job id looks like in the document.
_ID_DIGITS = 12


class JobState(StrEnum):
    """Where a job is in its life."""

    #: Waits for a free slot.
    QUEUED = "queued"
    #: A process works on it.
    RUNNING = "running"
    #: Done; its result is there.
    SUCCEEDED = "succeeded"
    #: It cannot be finished; its reason says why.
    FAILED = "failed"
    #: Somebody stopped it; what it had is saved.
    CANCELLED = "cancelled"
    #: Its process ended before the job did, by a shutdown or a crash; it can be resumed.
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens to such a job by itself any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)

    def may_become(self, other: JobState) -> bool:
        """Return whether this transition is legal."""
        return other in _TRANSITIONS[self]


_TRANSITIONS = {
    JobState.QUEUED: {JobState.RUNNING, JobState.CANCELLED, JobState.FAILED},
    JobState.RUNNING: {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.INTERRUPTED,
    },
    JobState.SUCCEEDED: set(),
    JobState.FAILED: {JobState.QUEUED},
    JobState.CANCELLED: {JobState.QUEUED},
    JobState.INTERRUPTED: {JobState.QUEUED, JobState.CANCELLED},
}


class StopRequest(StrEnum):
    """What a running job is asked for: finish the step, save, and end."""

    #: Somebody no longer wants it: it becomes cancelled.
    CANCEL = "cancel"
    #: The service shuts down: it becomes interrupted.
    INTERRUPT = "interrupt"


class IllegalTransition(ServiceError):
    """A job is not in a state in which this can be done."""

    status = 409
    default_description = "The job is not in a state in which this can be done."


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its record has it. Times are UTC in seconds since 1970.

    Attributes:
        kind: what does it, the dotted path of a module with `run(context)`.
        request: what it was asked for, plain JSON data; see `Resources` for one of its names.
        progress: the newest numbers, such as step and loss.
        result: what came of it; None until it succeeded.
        reason: why it failed, was cancelled or interrupted, for a person.
        stop: what it was asked for while it runs.
        attempt: how often it was started.
        heartbeat_at: when its process last showed a sign of life.
        trace: the `traceparent` of the request that made it, for `ml.tracing`.
    """

    id: str
    kind: str
    state: JobState
    request: dict[str, Any]
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    reason: str | None = None
    stop: StopRequest | None = None
    attempt: int = 0
    heartbeat_at: float | None = None
    process: dict[str, Any] = field(default_factory=dict)
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job. Ids begin at 1 for each job and have no gaps.

    Its type is an `EventType`, or one that another version knows.
    """

    job_id: str
    id: int
    created_at: float
    type: str
    data: dict[str, Any]


def new_job_id(prefix: str) -> str:
    """Return an id such as `train_1234abcd5678`."""
    return f"{prefix}_{uuid.uuid4().hex[:_ID_DIGITS]}"
