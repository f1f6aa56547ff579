"""The types of events that jobs leave: the names by which streams, histories and pages know them.

To add one: give it a line here, tell it by `JobContext.event`, name it in the READMEs of the
services whose jobs have it, and in `EVENT_TYPES` of the dashboard's `run.js`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ml.jobs.job import JobState

__all__ = ["EventType", "NewEvent", "phase_event", "state_event"]


class EventType(StrEnum):
    """What an event tells."""

    #: The job's record, first on each stream; it has no id and is not stored.
    INIT = "init"
    #: The job is in another state, its `state`, or its work in another phase, its `phase`.
    STATUS = "status"
    #: The numbers of a step of training, or of an evaluation.
    PROGRESS = "progress"
    #: What a model that learns answers to some prompts: a `step`, and its `samples`.
    SAMPLE = "sample"
    #: A stage of a proof begins, or ended after so many `seconds`.
    STAGE = "stage"
    #: A `message` for a person, with its `level`.
    LOG = "log"
    #: The result of a job that succeeded; its last event.
    COMPLETE = "complete"
    #: Why a job failed; its last event.
    ERROR = "error"


#: An event to be: its type and its data.
NewEvent = tuple[EventType, dict[str, Any]]


def state_event(state: JobState, message: str) -> NewEvent:
    """Return the event of a job that is in another state."""
    return EventType.STATUS, {"status": state, "state": state, "message": message}


def phase_event(phase: str, message: str, **more: Any) -> NewEvent:
    """Return the event of a running job whose work is in another phase, or further in it."""
    return EventType.STATUS, {"status": phase, "phase": phase, "message": message, **more}
