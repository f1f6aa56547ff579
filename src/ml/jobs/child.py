"""The process of one job: `python -m ml.jobs.child <job id>`, whoever starts it, wherever.

It is told by its environment where the store and its folder are, runs the job's kind, and writes
how that ended. SIGTERM and SIGINT ask the work to save and end; only SIGKILL ends it at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from typing import Any

from ml.errors import ConfigurationError, StorageFull, StorageUnavailable, storage_failure
from ml.jobs.assignment import Assignment
from ml.jobs.context import JobContext, Stopped
from ml.jobs.environment_file import environment_file
from ml.jobs.event_type import EventType
from ml.jobs.events import Superseded
from ml.jobs.job import IllegalTransition, JobState, StopRequest
from ml.jobs.log_file import last_lines_event
from ml.jobs.process import Process
from ml.jobs.remote_files import FilesAway
from ml.parent_process import end_with_parent
from ml.tracing import Attributes, span, start_tracing

__all__ = ["STORE_IS_AWAY", "main"]

STORE_IS_AWAY = 75  # EX_TEMPFAIL of sysexits.h
_LONGEST_REASON = 1000


def main() -> int:
    """Run a job; the exit code is 0 if the store knows how it ended.

    It is `STORE_IS_AWAY` if the store could not be told: then the job is not at fault.
    """
    faulthandler.enable()  # a segmentation fault then leaves its place in the log file
    try:
        if file := environment_file():
            file.take()
    except FilesAway as error:
        print(f"no environment: {error}", flush=True)  # noqa: T201
        return STORE_IS_AWAY
    job_id, assignment = sys.argv[1], Assignment.from_environment()
    _start_tracing()
    try:
        with JobContext(assignment, job_id) as context:
            _obey_signals(context, assignment.parent)
            context.introduce(_process(assignment.parent))
            context.on_superseded = _leave
            _run_traced(context)
    except (Superseded, IllegalTransition):
        print(f"job {job_id} is not this process's any more", flush=True)  # noqa: T201
        return 1
    except (StorageFull, StorageUnavailable):
        return STORE_IS_AWAY
    return 0


def _obey_signals(context: JobContext, parent: int | None) -> None:
    def interrupt(_number: int, _frame: Any) -> None:
        context.interrupt()

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    if parent is not None:
        end_with_parent(parent)


def _leave() -> None:
    """End without another word or file: those of the process that has the job now are there."""
    with contextlib.suppress(OSError):  # of a full disk, on which the log file is
        print("the job is another process's by now", flush=True)  # noqa: T201
    os._exit(1)


def _process(parent: int | None) -> dict[str, Any]:
    data = Process.numbered(os.getpid()).data()
    if parent is not None:
        data["parent"] = str(Process.numbered(parent))
    return data


def _start_tracing() -> None:
    try:
        start_tracing("jobs")
    except ConfigurationError as error:  # the job can do without
        print(f"no traces: {error}", flush=True)  # noqa: T201


def _run_traced(context: JobContext) -> None:
    job = context.job
    attributes: Attributes = {"job.id": job.id, "job.attempt": job.attempt}
    with span(job.kind, attributes=attributes, parent=job.trace) as traced:
        state = _run(context)
        traced.tell({"job.state": state})
        if state is JobState.FAILED:
            traced.failed(state)


def _run(context: JobContext) -> JobState:
    """Do the work, tell the store how it ended, and return that."""
    try:
        result = importlib.import_module(context.job.kind).run(context)
        context.finish(JobState.SUCCEEDED, result=result, events=[(EventType.COMPLETE, result)])
        return JobState.SUCCEEDED
    except Stopped:
        asked = context.ask()
        if asked is None:
            return _fail(context, "It stopped, and nobody had asked it to.")
        state = JobState.CANCELLED if asked is StopRequest.CANCEL else JobState.INTERRUPTED
        context.finish(state)
        return state
    except (Superseded, IllegalTransition):
        raise
    except FilesAway as error:  # the job is not at fault, and goes on from its checkpoint
        context.finish(JobState.INTERRUPTED, reason=str(error))
        return JobState.INTERRUPTED
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a full disk, on which the log file is
            traceback.print_exc()
            sys.stderr.flush()
        error = storage_failure(error) or error
        return _fail(context, f"{type(error).__name__}: {error}".removesuffix(": "))


def _fail(context: JobContext, reason: str) -> JobState:
    reason = reason[:_LONGEST_REASON]
    events = [*last_lines_event(context.folder), (EventType.ERROR, {"message": reason})]
    context.finish(JobState.FAILED, reason=reason, events=events)
    return JobState.FAILED


if __name__ == "__main__":
    sys.exit(main())
