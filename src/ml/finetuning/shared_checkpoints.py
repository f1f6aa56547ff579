"""Checkpoints that outlive their host: each is copied to the shared files once it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ml.finetuning.checkpoints import MARKER, Checkpoint, Checkpoints
from ml.jobs.remote_files import FilesAway, RemoteFiles

__all__ = ["SharedCheckpoints", "shared_checkpoints", "shared_text"]


def _place(job_id: str) -> str:
    return f"jobs/{job_id}"


class SharedCheckpoints(Checkpoints):
    """The checkpoints of a job on its host, and their copies in `jobs/<id>/checkpoints`.

    Copies have their marker last, so that what has none is no checkpoint there either. One that
    cannot be copied stays on the host, `warn` tells of it, and it is copied with the next.

    Args:
        beside: names of files in the job's folder that belong to its checkpoints.
    """

    def __init__(
        self,
        files: RemoteFiles,
        job_id: str,
        folder: Path,
        *,
        keep: int,
        beside: tuple[str, ...],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(folder / "checkpoints", keep=keep)
        self._files = files
        self._job = _place(job_id)
        self._job_folder = folder
        self._beside = beside
        self._warn = warn

    def fetch(self) -> None:
        """Have on this host what the job is to go on from, if another one has come further."""
        there = self._whole_there()
        newest = self.newest()
        if not there or (newest is not None and newest.step >= max(there)):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in self._beside:
            (self._job_folder / name).unlink(missing_ok=True)
            if self._files.look(f"{self._job}/{name}") is not None:
                self._files.download(f"{self._job}/{name}", self._job_folder / name)
        for step, names in sorted(there.items()):
            folder = self.folder / f"checkpoint-{step}"
            for name in sorted(names, key=lambda name: name == MARKER):
                self._files.download(f"{self._folder_there(step)}/{name}", folder / name)

    def mark_complete(self, step: int, numbers: Mapping[str, Any]) -> None:
        """Say that all files of a step's checkpoint are written, and copy it."""
        super().mark_complete(step, numbers)
        try:
            self._copy()
        except FilesAway as error:
            self._warn(
                f"The checkpoint of step {step} is on this host alone, and copied with the next: "
                f"{error}"
            )

    def rotate(self, *, best_step: int | None = None) -> None:
        """Delete the oldest complete checkpoints but the newest and the best one, here and there.

        There those are kept that are here, as long as one of these was copied.
        """
        super().rotate(best_step=best_step)
        kept = {one.step for one in self.complete()}
        try:
            there = self._whole_there()
            if kept & there.keys():
                for step in there.keys() - kept:
                    self._files.delete_folder(self._folder_there(step), first=[MARKER])
        except FilesAway as error:
            self._warn(f"An old checkpoint could not be deleted: {error}")

    def _copy(self) -> None:
        there = self._whole_there()
        for one in self.complete():
            if one.step in there:
                continue
            for name in self._beside:
                if (self._job_folder / name).exists():
                    self._files.upload(self._job_folder / name, f"{self._job}/{name}")
            names = [path.name for path in one.folder.iterdir() if path.is_file()]
            for name in sorted(names, key=lambda name: name == MARKER):
                self._files.upload(one.folder / name, f"{self._folder_there(one.step)}/{name}")

    def _whole_there(self) -> dict[int, list[str]]:
        return _whole(self._files, self._job)

    def _folder_there(self, step: int) -> str:
        return f"{self._job}/checkpoints/checkpoint-{step}"


def shared_checkpoints(files: RemoteFiles, job_id: str) -> list[Checkpoint]:
    """Return the checkpoints of a job that were copied, oldest first; they are not on this host."""
    job, found = _place(job_id), []
    for step in sorted(_whole(files, job)):
        place = f"{job}/checkpoints/checkpoint-{step}"
        text = files.read(f"{place}/{MARKER}")
        if text is None:  # it is rotated meanwhile
            continue
        with suppress(ValueError, KeyError, TypeError):  # half of one is none
            marker = json.loads(text)
            found.append(Checkpoint(step, Path(place), marker["numbers"], marker["written_at"]))
    return found


def shared_text(files: RemoteFiles, job_id: str, name: str) -> str:
    """Return a file of a job as it was copied with its newest checkpoint, "" if it was not."""
    return (files.read(f"{_place(job_id)}/{name}") or b"").decode()


def _whole(files: RemoteFiles, job: str) -> dict[int, list[str]]:
    """Return the names of the files of each checkpoint that has its marker."""
    found: dict[int, list[str]] = {}
    for name in files.list(f"{job}/checkpoints"):
        folder, _, inside = name.partition("/")
        step = folder.removeprefix("checkpoint-")
        if step.isdecimal() and inside:
            found.setdefault(int(step), []).append(inside)
    return {step: names for step, names in found.items() if MARKER in names}
