"""The work of a proof that is a job: from the input in its folder to the answer with its proof."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError, DeadlineExceeded, NotFound
from ml.jobs.event_type import EventType
from ml.jobs.job import StopRequest
from ml.proving.answer import answer_document
from ml.proving.artifact import Artifact
from ml.proving.job_input import JobInput
from ml.proving.manifest import Manifest
from ml.proving.prover import Prover
from ml.proving.tasks import Stages
from ml.proving.worker import Worker

if TYPE_CHECKING:
    from ml.jobs.context import JobContext

__all__ = ["job_environment", "job_request", "run"]

#: Environment variables: the folders of artifacts as a JSON list, and the worker's limit.
_ARTIFACTS, _MEMORY_LIMIT_BYTES = "PROOF_JOB_ARTIFACTS", "PROOF_JOB_MEMORY_LIMIT_BYTES"
#: How often progress tells the seconds so far.
_TELL_SECONDS = 1.0


def job_environment(artifacts: Sequence[Path], memory_limit_bytes: int | None) -> dict[str, str]:
    """Return the variables by which a job finds what it proves with."""
    return {
        _ARTIFACTS: json.dumps([str(folder.absolute()) for folder in artifacts]),
        _MEMORY_LIMIT_BYTES: str(int(memory_limit_bytes or 0)),
    }


def job_request(prover: Prover) -> dict[str, Any]:
    """Return what a job's record says of it: no word of its input."""
    return {
        "artifact": prover.artifact.manifest.id,
        "expected_seconds": round(prover.expected_seconds, 2),
    }


def run(context: JobContext) -> dict[str, Any]:
    """Return what `answer_document` has for the job's input, which goes with the job's end.

    An interrupted job keeps its input and begins anew. Raises `ml.jobs.context.Stopped` if it was
    asked to stop, `NotFound` if artifact or input are gone, `ConfigurationError` for an artifact
    that was altered, and what `Prover.prove` does.
    """
    given = JobInput(context.folder)
    try:
        return _prove(context, given)
    finally:
        if context.stop_request() is not StopRequest.INTERRUPT:
            given.discard()


def _prove(context: JobContext, given: JobInput) -> dict[str, Any]:
    report = _Report(context)
    given.discard_scratch()
    with Stages(report.stage).stage("artifact"):
        artifact = _artifact(context.job.request["artifact"])
    limit = int(os.environ[_MEMORY_LIMIT_BYTES]) or None
    with Worker(memory_limit_bytes=limit, folder=context.folder) as worker:
        try:
            proved = Prover(artifact, worker).prove_document(
                given.read(), progress=report.stage, is_cancelled=report.is_stopped
            )
        except DeadlineExceeded:  # there is none: it was cancelled
            from ml.jobs.context import Stopped  # brings SQLAlchemy, which settings do without

            raise Stopped("stopped in mid-proof") from None
    return answer_document(artifact.manifest, proved)


def _artifact(artifact_id: str) -> Artifact:
    for folder in map(Path, json.loads(os.environ[_ARTIFACTS])):
        try:
            found = Manifest.read(folder).id
        except ConfigurationError:  # another one's fault
            continue
        if found == artifact_id:
            return Artifact(folder)
    raise NotFound(f"the artifact {artifact_id} is gone, or was built again since; ask again")


class _Report:
    """Tells of each stage as an event, and in the job's progress how long it takes."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._began = time.monotonic()
        self._told_at = 0.0
        self._stage = ""
        self._stages: dict[str, float] = {}

    def stage(self, name: str, seconds: float | None) -> None:
        """Tell that a stage begins, or ended after so many seconds."""
        if seconds is not None:
            seconds = self._stages[name] = round(seconds, 4)
        self._stage = name
        self._context.event(EventType.STAGE, {"stage": name, "seconds": seconds})
        self._tell()

    def is_stopped(self) -> bool:
        """Return whether the job is asked to stop; tells the seconds so far, as it is asked."""
        if time.monotonic() > self._told_at + _TELL_SECONDS:
            self._tell()
        return self._context.stop_request() is not None

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        self._context.progress(
            stage=self._stage,
            seconds=round(self._told_at - self._began, 2),
            stages=self._stages,
            expected_seconds=self._context.job.request["expected_seconds"],
        )
