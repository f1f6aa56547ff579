"""Tuned models that several hosts share: each is claimed by its job, and known once it is whole."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import get_args

from ml.errors import NotFound
from ml.finetuning.failures import OutputTaken
from ml.finetuning.manifest import MANIFEST_FILE
from ml.finetuning.output import OWNER_FILE, Output
from ml.finetuning.request import Export
from ml.finetuning.run_log import LOG_FILE, METRICS_FILE
from ml.jobs.local_copies import LocalCopies
from ml.jobs.remote_files import FilesAway, RemoteFile, RemoteFiles

__all__ = ["SharedModels", "SharedOutput"]

_OUTPUT, _CLAIMS, _MODELS = "output", "claims", "models"
#: What a run tells of itself while it goes on, and at its end.
_TOLD_LAST = (LOG_FILE, METRICS_FILE, MANIFEST_FILE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: How old may be what is known of the models' names: each request asks for them.
_KNOWN_FOR_SECONDS = 2.0


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _marker(name: str) -> str:
    return f"{_MODELS}/{name}.json"


class SharedModels:
    """The models that `models/<name>.json` tells of: it is written last and deleted first.

    It has the sizes of the adapter's files in `output/<name>`, which do not change while it is
    there. A host copies those of the models that are asked for.
    """

    def __init__(self, files: RemoteFiles, copies: LocalCopies) -> None:
        self._files = files
        self._copies = copies
        self._lock = threading.Lock()
        self._known: dict[str, RemoteFile] = {}
        self._known_until = 0.0
        #: By name, for the version of its marker.
        self._contents: dict[str, tuple[str, dict[str, RemoteFile]]] = {}

    def names(self) -> set[str]:
        """Return the names of the models; those known before, while the files are away."""
        return set(self._markers())

    def taken(self) -> set[str]:
        """Return the names that belong to some job, those of archives and exports too."""
        return set(self._files.list(_CLAIMS))

    def owner(self, name: str) -> str | None:
        """Return the id of the job that a name belongs to, None for one that no job claims."""
        claim = self._files.read(f"{_CLAIMS}/{name}")
        return None if claim is None else claim.decode()

    def fetch(self, name: str) -> None:
        """Have this host's copy of a model as it is now, or none where there is none."""
        if not _NAME.fullmatch(name):
            return
        found = self._markers().get(name)
        contents = None if found is None else self._contents_of(name, found)
        with contextlib.suppress(FileNotFoundError):  # it is deleted meanwhile
            if contents is not None:
                self._copies.tree(name, contents)
                return
        self._copies.forget(name)

    def run_of(self, name: str) -> str | None:
        """Return the id of the job that made a model, None where there is no such model."""
        marker = self._files.read(_marker(name)) if _NAME.fullmatch(name) else None
        return None if marker is None else str(json.loads(marker)["job"])

    def delete(self, name: str) -> None:
        """Remove a model, its archive, and the exports of the same job; raises `NotFound`."""
        job_id = self.run_of(name)
        if job_id is None:
            raise NotFound(f"There is no tuned model {name[:100]!r} here.")
        self._files.delete([_marker(name)])
        with self._lock:
            self._known.pop(name, None)
        mine = Output(Path(), name, job_id).names(get_args(Export))
        for made in mine:
            if self._files.read(f"{_CLAIMS}/{made}") == job_id.encode():
                self._files.delete_folder(f"{_OUTPUT}/{made}")
                self._files.delete([f"{_OUTPUT}/{made}", f"{_CLAIMS}/{made}"])
        self._copies.forget(name)

    def _markers(self) -> dict[str, RemoteFile]:
        with self._lock:
            if time.monotonic() < self._known_until:
                return dict(self._known)
            try:
                found = self._files.list(_MODELS)
            except FilesAway:
                if not self._known:
                    raise
            else:
                self._known = {
                    name.removesuffix(".json"): file
                    for name, file in found.items()
                    if name.endswith(".json") and _NAME.fullmatch(name.removesuffix(".json"))
                }
            self._known_until = time.monotonic() + _KNOWN_FOR_SECONDS
            return dict(self._known)

    def _contents_of(self, name: str, marker: RemoteFile) -> dict[str, RemoteFile] | None:
        known = self._contents.get(name)
        if known is None or known[0] != marker.version:
            text = self._files.read(_marker(name))
            if text is None:
                return None
            try:
                sizes = {
                    str(inside): int(size) for inside, size in json.loads(text)["files"].items()
                }
            except (ValueError, KeyError, TypeError, AttributeError):
                return None  # half of one, or somebody else's
            if not all(map(_is_below, sizes)):
                return None  # else it would be written elsewhere on this host
            contents = {inside: RemoteFile(size, marker.version) for inside, size in sizes.items()}
            known = self._contents[name] = (marker.version, contents)
        return known[1]


class SharedOutput(Output):
    """What one job writes, first in a folder of its own on its host, and then where all find it.

    Each name under which something will lie is claimed by `claims/<name>`, which has the job's id.
    """

    def __init__(
        self,
        files: RemoteFiles,
        folder: Path,
        name: str,
        job_id: str,
        *,
        maker: str | None = None,
    ) -> None:
        super().__init__(folder, name, job_id, maker=maker)
        self._files = files
        self._claimed: list[str] = []

    def claim(self, exports: list[str]) -> None:
        """Make the folder, and claim the names; raises `OutputTaken`."""
        self._claim(self.names(exports))
        super().claim(exports)

    def claim_exports(self, exports: Collection[str]) -> None:
        """Have the names of further exports of a model that is there; raises `OutputTaken`."""
        super().claim_exports(exports)
        self._claim(map(self.export_name, exports))

    def has_export(self, export: str) -> bool:
        """Return whether all of an export is there: the file that tells whose it is comes last."""
        return self._files.look(f"{_OUTPUT}/{self.export_name(export)}/{OWNER_FILE}") is not None

    def discard_partial(self, exports: Iterable[str]) -> None:
        """Remove what an end in mid-export has left of exports, here and there."""
        for export in exports:
            super().discard_partial([export])
            name = self.export_name(export)
            claim = f"{_CLAIMS}/{name}"
            is_own = self._files.read(claim) == self._job_id.encode()
            if is_own and not self.has_export(export):
                self._files.delete_folder(f"{_OUTPUT}/{name}")
                self._files.delete([claim])

    def _claim(self, names: Iterable[str]) -> None:
        for made in sorted(names):
            if not self._files.write_new(f"{_CLAIMS}/{made}", self._job_id.encode()):
                owner = (self._files.read(f"{_CLAIMS}/{made}") or b"").decode()
                self._give_back()
                raise OutputTaken(f"output_dir: {made!r} belongs to job {owner}; take a new name")
            self._claimed.append(made)

    def release(self) -> None:
        """Give the names back if nothing of a model is there."""
        super().release()
        with contextlib.suppress(FilesAway):  # what is to be told is why the job ends
            if self._files.look(_marker(self.name)) is None:
                self._give_back()

    def publish_adapter(self, checkpoint: Path, base_model: str, tokenizer: object) -> None:
        """Put an adapter into the folder, and make it known to all."""
        super().publish_adapter(checkpoint, base_model, tokenizer)
        files = self._visible(self.folder, without=_TOLD_LAST)
        self._upload(self.folder, files)
        sizes = {name: (self.folder / name).stat().st_size for name in files}
        marker = json.dumps({"job": self._job_id, "files": sizes}, sort_keys=True)
        self._files.write(_marker(self.name), marker.encode())

    def publish_export(self, export: str, scratch: Path) -> Path:
        """Put an export in its place, and copy it to where all find it."""
        target = super().publish_export(export, scratch)
        self._upload(target, [*self._visible(target), OWNER_FILE])
        return target

    def write_archive(self, files: list[str]) -> str:
        """Write the zip, and copy it and what tells of the run to where all find them."""
        digest = super().write_archive(files)
        self._files.upload(self.archive, f"{_OUTPUT}/{self.archive.name}")
        self._upload(self.folder, [name for name in _TOLD_LAST if (self.folder / name).exists()])
        return digest

    def _upload(self, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            self._files.upload(folder / name, f"{_OUTPUT}/{folder.name}/{name}")

    def _give_back(self) -> None:
        self._files.delete(f"{_CLAIMS}/{made}" for made in self._claimed)
        self._claimed.clear()

    @staticmethod
    def _visible(folder: Path, *, without: Iterable[str] = ()) -> list[str]:
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in paths]
        return [name for name in names if name not in without and not name.startswith(".")]
