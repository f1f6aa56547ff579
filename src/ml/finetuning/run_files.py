"""The files of a run: what its job writes while it works, and what it left as a tuned model."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from ml.errors import NotFound
from ml.finetuning.feedback import FEEDBACK_FILE, FEEDBACK_FOLDER
from ml.finetuning.manifest import MANIFEST_FILE
from ml.finetuning.names import is_output_name, output_name
from ml.finetuning.output import ADAPTER_CONFIG, OWNER_FILE, Output, owner_of
from ml.finetuning.request import Export
from ml.finetuning.run_log import LOG_FILE, METRICS_FILE
from ml.jobs.job import Job
from ml.jobs.log_file import LOG_FILE as PROCESS_LOG
from ml.jobs.stored_file import FileHashes, FilePlace, LocalPlace, RemotePlace, StoredFile

if TYPE_CHECKING:
    from ml.finetuning.shared_files import SharedFiles

__all__ = ["RunFile", "RunFiles", "find"]

#: Of a job's folder: what is for others to read.
_TOLD = {
    METRICS_FILE: "metrics",
    LOG_FILE: "log",
    PROCESS_LOG: "log",
    FEEDBACK_FILE: "feedback",
}
_KINDS = {**_TOLD, MANIFEST_FILE: "manifest"}


@dataclass(frozen=True, slots=True)
class RunFile:
    """One of a run's files.

    Attributes:
        name: unique within the run, with `/` below an export's name.
        kind: "adapter", "archive", an export's name, "manifest", "metrics", "log" or "feedback".
    """

    name: str
    kind: str
    stored: StoredFile


class RunFiles:
    """Finds the files of jobs and of tuned models.

    Args:
        models: where the tuned models lie.
        owner: gives the id of the job that a name there belongs to, None for one of no job.
        jobs: where each job has a folder; of a file that is in several places, the first counts.
        hashes: know the files' SHA-256.
    """

    def __init__(
        self,
        models: FilePlace,
        owner: Callable[[str], str | None],
        jobs: Iterable[FilePlace],
        hashes: FileHashes,
    ) -> None:
        #: Where the tuned models lie.
        self.models = models
        #: Gives the job that a name there belongs to.
        self.owner_of = owner
        self._jobs = tuple(jobs)
        self._hashes = hashes

    @classmethod
    def of(cls, models: Path, jobs: Path, shared: SharedFiles | None, hashes: FileHashes) -> Self:
        """Return those in the folders of this host, or, with `shared`, those that hosts share.

        What a running job of this host writes is newer in its folder.
        """
        if shared is None:
            folder = LocalPlace(models)
            return cls(folder, lambda name: owner_of(models / name), [LocalPlace(jobs)], hashes)
        places = (LocalPlace(jobs), RemotePlace(shared.files, "jobs"))
        there = RemotePlace(shared.files, "output")
        return cls(there, shared.models.owner, places, hashes)

    def list(self, job: Job) -> list[RunFile]:
        """Return the files of a job. Links, hidden files and names of no address are none."""
        try:
            name = output_name(str(job.request["output_dir"]))
        except (KeyError, ValueError):  # a job of another kind
            name = ""
        is_owner = bool(name) and self.owner_of(name) == job.id
        return self._with_told(self._left(name, job.id, job) if is_owner else [], job.id)

    def run_of(self, model: str) -> str | None:
        """Return the id of the job that made a tuned model, None for one of no job.

        Raises `NotFound` for what is no tuned model.
        """
        if is_output_name(model) and self.models.look(f"{model}/{ADAPTER_CONFIG}"):
            return self.owner_of(model)
        raise NotFound(f"There is no tuned model {model[:100]!r} here.")

    def of_model(self, name: str, job: Job | None) -> builtins.list[RunFile]:
        """Return the files of a tuned model, of which its job, if it is known, has told."""
        owner = self.run_of(name)
        left = self._left(name, owner, job)
        return self._with_told(left, owner) if owner else _sorted(left)

    def is_export(self, folder: str, owner: str) -> bool:
        """Return whether a folder is an export of this job's, all of which is there.

        Where hosts share the files, its name is the job's before anything is.
        """
        is_whole = self.models.look(f"{folder}/{OWNER_FILE}") is not None
        return is_whole and self.owner_of(folder) == owner

    def _with_told(self, left: builtins.list[RunFile], job_id: str) -> builtins.list[RunFile]:
        """Return files with those that a job has whatever became of it."""
        found = {file.name: file for file in left}
        for name, kind in _TOLD.items():
            copies = (place.look(f"{job_id}/{name}") for place in self._jobs)
            if name not in found and (first := next(filter(None, copies), None)):
                found[name] = RunFile(name, kind, first)
        for place in self._jobs:
            for stored in place.below(f"{job_id}/{FEEDBACK_FOLDER}"):
                name = stored.name.removeprefix(f"{job_id}/")
                found.setdefault(name, RunFile(name, "feedback", stored))
        return _sorted(found.values())

    def _left(self, name: str, owner: str | None, job: Job | None) -> builtins.list[RunFile]:
        """Return the files of a tuned model, as far as they belong to its job."""
        output = Output(Path(), name, owner or "")
        found = []
        for stored in self.models.below(name):
            inside = stored.name.removeprefix(f"{name}/")
            found.append(RunFile(inside, _KINDS.get(inside, "adapter"), stored))
        if archive := self.models.look(output.archive.name):
            found.append(RunFile(archive.name, "archive", archive))
        for export in get_args(Export):
            folder = output.export_name(export)
            if owner is not None and self.is_export(folder, owner):
                found += [
                    RunFile(stored.name, export, stored) for stored in self.models.below(folder)
                ]
        self._learn(found, output, job)
        return found

    def _learn(self, files: builtins.list[RunFile], output: Output, job: Job | None) -> None:
        """Take over what an ended job has told of the files that were not changed since."""
        result = (job.result if job is not None else None) or {}
        told: dict[str, dict[str, Any]] = {}
        for manifest in files:
            if manifest.kind == "manifest":
                told |= _told_in(manifest.stored, output.name)
        if "archive" in result:
            told[output.archive.name] = result["archive"]
        for export, facts in result.get("exports", {}).items():
            folder = output.export_name(export)
            told |= {f"{folder}/{name}": about for name, about in facts.get("files", {}).items()}
        ended_at = (job.ended_at if job is not None else None) or 0.0
        for stored in (file.stored for file in files):
            about = told.get(stored.name, {})
            is_same = not stored.place.changes or (stored.changed_at or 0.0) <= ended_at
            if "sha256" in about and is_same and about.get("bytes", stored.size) == stored.size:
                self._hashes.learn(stored, about["sha256"])


def find(files: Iterable[RunFile], name: str) -> RunFile:
    """Return the file of a name; raises `NotFound`."""
    for file in files:
        if file.name == name:
            return file
    raise NotFound(f"There is no file {name[:200]!r} of it.")


def _sorted(files: Iterable[RunFile]) -> list[RunFile]:
    return sorted(files, key=lambda file: (file.kind, file.name))


def _told_in(manifest: StoredFile, folder: str) -> dict[str, dict[str, Any]]:
    try:
        with manifest.open() as source:
            files = json.loads(source.read())["files"]
        return {f"{folder}/{name}": facts for name, facts in files.items()}
    except (OSError, ValueError, KeyError, NotFound):
        return {}
