"""The files of a run: what its job writes while it works, and what it left as a tuned model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ml.errors import NotFound
from ml.finetuning.feedback import FEEDBACK_FILE
from ml.finetuning.manifest import MANIFEST_FILE
from ml.finetuning.names import output_name
from ml.finetuning.output import Output, owner_of
from ml.finetuning.request import Export
from ml.finetuning.run_log import LOG_FILE, METRICS_FILE
from ml.jobs.job import Job
from ml.jobs.log_file import LOG_FILE as PROCESS_LOG

__all__ = ["RunFile", "RunFiles"]

#: Of a job's folder: what is for others to read.
_TOLD = {
    METRICS_FILE: "metrics",
    LOG_FILE: "log",
    PROCESS_LOG: "log",
    FEEDBACK_FILE: "feedback",
}
_KINDS = {**_TOLD, MANIFEST_FILE: "manifest"}
_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class RunFile:
    """One of a run's files as it is now; one that grows is as long as it was.

    Attributes:
        name: unique within the run, with `/` below an export's name.
        kind: "adapter", "archive", an export's name, "manifest", "metrics", "log" or "feedback".
        version: another one if the content is another.
    """

    name: str
    kind: str
    path: Path
    size: int
    version: tuple[int, int]


class RunFiles:
    """Finds the files of jobs, and knows the SHA-256 of those that it was asked for once.

    Args:
        models: the folder of tuned models.
        jobs: the folder with a folder for each job.
    """

    def __init__(self, models: Path, jobs: Path) -> None:
        self._models = models
        self._jobs = jobs
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, int, tuple[int, int]], str] = {}

    def list(self, job: Job) -> list[RunFile]:
        """Return the files of a job. Links and hidden files are none."""
        found = {file.name: file for file in self._left(job)}
        for name, kind in _TOLD.items():  # it has these whatever became of the job
            with contextlib.suppress(OSError, ValueError):
                found[name] = _file(self._jobs / job.id / name, name, kind)
        return sorted(found.values(), key=lambda file: (file.kind, file.name))

    def find(self, job: Job, name: str) -> RunFile:
        """Return one of a job's files; raises `NotFound` for all else."""
        for file in self.list(job):
            if file.name == name:
                return file
        raise NotFound(f"Job {job.id} has no file {name[:200]!r}.")

    def sha256(self, file: RunFile) -> str:
        """Return the SHA-256 of a file in hexadecimal, read once; raises `NotFound`."""
        key = (file.path, file.size, file.version)
        with self._lock:  # one file at a time: the disk gives no more
            if key not in self._known:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = _sha256(file)
            return self._known[key]

    def _left(self, job: Job) -> Iterator[RunFile]:
        """Give the files among the tuned models, as far as they belong to the job."""
        try:
            output = Output(self._models, output_name(str(job.request["output_dir"])), job.id)
        except (KeyError, ValueError):  # a job of another kind
            return
        if owner_of(output.folder) != job.id:
            return
        self._learn(output, job)
        yield from _inside(output.folder, "", "adapter")
        with contextlib.suppress(OSError, ValueError):
            yield _file(output.archive, output.archive.name, "archive")
        for export in get_args(Export):
            folder = self._models / output.export_name(export)
            if owner_of(folder) == job.id:
                yield from _inside(folder, f"{folder.name}/", export)

    def _learn(self, output: Output, job: Job) -> None:
        """Take over what an ended job has told of the files that were not changed since."""
        result = job.result or {}
        told: dict[Path, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError, KeyError):
            manifest = json.loads((output.folder / MANIFEST_FILE).read_text())
            told = {output.folder / name: facts for name, facts in manifest["files"].items()}
        if "archive" in result:
            told[output.archive] = result["archive"]
        for export, facts in result.get("exports", {}).items():
            folder = self._models / output.export_name(export)
            told |= {folder / name: about for name, about in facts.get("files", {}).items()}
        for path, about in told.items():
            with contextlib.suppress(OSError, ValueError):
                file = _file(path, path.name, "")
                if "sha256" in about and file.version[0] <= (job.ended_at or 0) * 1e9:
                    self._known.setdefault((path, file.size, file.version), about["sha256"])


def _inside(folder: Path, prefix: str, kind: str) -> Iterator[RunFile]:
    for place, folders, names in os.walk(folder):  # follows no links
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith("."):
                with contextlib.suppress(OSError, ValueError):
                    inside = path.relative_to(folder).as_posix()
                    yield _file(path, prefix + inside, kind if prefix else _KINDS.get(inside, kind))


def _file(path: Path, name: str, kind: str) -> RunFile:
    """Return what is known of a file; raises `ValueError` for a link, a pipe, a folder."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(name)
    return RunFile(name, kind, path, found.st_size, (found.st_mtime_ns, found.st_ino))


def _sha256(file: RunFile) -> str:
    digest, left = hashlib.sha256(), file.size
    try:
        with file.path.open("rb") as source:
            while left and (part := source.read(min(left, 1 << 20))):
                digest.update(part)
                left -= len(part)
    except FileNotFoundError:
        raise NotFound(f"{file.name!r} is deleted meanwhile.") from None
    return digest.hexdigest()
