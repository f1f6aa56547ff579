"""The folder of a tuned model under `OUTPUT_PATH`, and the archive beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from ml.errors import NotFound
from ml.finetuning.failures import OutputTaken
from ml.finetuning.request import Export

__all__ = ["OWNER_FILE", "Output", "delete_model", "names_made", "owner_of", "sha256_of"]

#: Holds the id of the job that a folder belongs to.
OWNER_FILE = ".job"
_PARTIAL = ".partial"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


class Output:
    """What one job writes under `root`: `<name>`, `<name>.zip`, and `<name>-<export>`.

    `<name>` is an adapter's folder in the form of peft. Folders and files appear whole: they are
    written under another name, beginning with a dot, and then renamed.

    Args:
        job_id: the job that made the model, to which all of it belongs.
        maker: who writes, in the names of what is not whole yet; the same job by default.
    """

    def __init__(self, root: Path, name: str, job_id: str, *, maker: str | None = None) -> None:
        self.name = name
        self.root = root
        self._job_id = job_id
        self._maker = maker or job_id

    @property
    def folder(self) -> Path:
        """The adapter's folder."""
        return self.root / self.name

    @property
    def archive(self) -> Path:
        """The zip of the adapter."""
        return self.root / f"{self.name}.zip"

    def export_name(self, export: str) -> str:
        """Return the name of an export's folder."""
        return f"{self.name}-{'merged' if export == 'merged_16bit' else export}"

    def names(self, exports: Iterable[str]) -> set[str]:
        """Return the names of all that will lie under the root."""
        return {self.name, self.archive.name, *map(self.export_name, exports)}

    def claim(self, exports: list[str]) -> None:
        """Make the folder, which belongs to this job from now on.

        Raises `OutputTaken` if it, or what will lie beside it, is not this job's.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if owner_of(self.folder) != self._job_id:
            if self.archive.exists():
                raise OutputTaken(
                    f"output_dir: {self.archive.name} exists already; take a new name"
                )
            scratch = self._scratch(self.name)
            with contextlib.suppress(OSError):  # refused below, by whose it is
                scratch.rename(self.folder)
            shutil.rmtree(scratch, ignore_errors=True)
        for name in (self.name, *map(self.export_name, exports)):
            owner = owner_of(self.root / name)
            if (self.root / name).exists() and owner != self._job_id:
                whose = f"belongs to job {owner}" if owner else "was not made by a job"
                raise OutputTaken(f"output_dir: {name!r} {whose}; take a new name")

    def require_no_export(self, exports: Iterable[str]) -> None:
        """Raise `OutputTaken` if one of these exports is there."""
        for export in exports:
            if self.has_export(export):
                raise OutputTaken(
                    f"exports: {self.export_name(export)!r} is there already, among the files of "
                    f"job {self._job_id}"
                )

    def claim_exports(self, exports: Collection[str]) -> None:
        """Have the names of further exports of a model that is there; raises `OutputTaken`."""
        self.root.mkdir(parents=True, exist_ok=True)

    def has_export(self, export: str) -> bool:
        """Return whether an export, or anything else under its name, is there."""
        return (self.root / self.export_name(export)).exists()

    def release(self) -> None:
        """Give the name back if nothing of a model is in its folder."""
        if owner_of(self.folder) == self._job_id and not (self.folder / ADAPTER_CONFIG).exists():
            shutil.rmtree(self.folder)

    def publish_adapter(self, checkpoint: Path, base_model: str, tokenizer: object) -> None:
        """Put an adapter of peft into the folder, with the tokenizer and its chat template.

        The configuration comes last: before it is there, the folder is no adapter's.
        """
        scratch = self.folder / _PARTIAL
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            self._publish(checkpoint, base_model, tokenizer, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _publish(self, checkpoint: Path, base_model: str, tokenizer: object, scratch: Path) -> None:
        tokenizer.save_pretrained(scratch)  # type: ignore[attr-defined]
        shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, scratch / ADAPTER_WEIGHTS)
        for path in sorted(scratch.iterdir()):
            os.replace(path, self.folder / path.name)  # noqa: PTH105
        config = json.loads((checkpoint / ADAPTER_CONFIG).read_text())
        # By its name, not the path that it has on this machine; and sorted, since peft writes the
        # modules in an order that differs from run to run.
        config["base_model_name_or_path"] = base_model
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        (scratch / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        os.replace(scratch / ADAPTER_CONFIG, self.folder / ADAPTER_CONFIG)  # noqa: PTH105

    def begin_export(self, export: str) -> Path:
        """Return an empty folder for an export, which `publish_export` renames."""
        return self._scratch(self.export_name(export))

    def publish_export(self, export: str, scratch: Path) -> Path:
        """Put an export in its place and return where that is."""
        target = self.root / self.export_name(export)
        for path in scratch.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its user alone
        if owner_of(target) == self._job_id:
            shutil.rmtree(target)
        scratch.rename(target)
        return target

    def discard_partial(self, exports: Iterable[str]) -> None:
        """Remove what an end in mid-export has left of exports."""
        for export in exports:
            shutil.rmtree(self._partial(self.export_name(export)), ignore_errors=True)

    def write_archive(self, files: list[str]) -> str:
        """Write the zip with these files of the folder, the same bytes for the same files.

        Returns its SHA-256.
        """
        scratch = self.root / f".{self.archive.name}{_PARTIAL}"
        try:
            self._write_zip(scratch, files)
            digest = sha256_of(scratch)
            os.replace(scratch, self.archive)  # noqa: PTH105
        finally:
            scratch.unlink(missing_ok=True)
        return digest

    def _write_zip(self, scratch: Path, files: list[str]) -> None:
        with zipfile.ZipFile(scratch, "w") as archive:  # weights do not get smaller: stored
            for name in sorted(files):
                entry = zipfile.ZipInfo(name)  # of 1980-01-01
                entry.external_attr = 0o644 << 16
                entry.file_size = (self.folder / name).stat().st_size
                with (self.folder / name).open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)

    def _partial(self, name: str) -> Path:
        return self.root / f".{name}.{self._maker}{_PARTIAL}"

    def _scratch(self, name: str) -> Path:
        scratch = self._partial(name)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            (scratch / OWNER_FILE).write_text(self._job_id)
        except OSError:
            shutil.rmtree(scratch)
            raise
        return scratch


def names_made(request: Mapping[str, Any]) -> set[str]:
    """Return the names under `OUTPUT_PATH` that a job with this request makes."""
    exports = request.get("exports") or []
    if "output_dir" in request:
        return Output(Path(), str(request["output_dir"]), "").names(exports)
    output = Output(Path(), str(request.get("model_name")), "")
    return set(map(output.export_name, exports))


def owner_of(folder: Path) -> str | None:
    """Return the id of the job that a folder belongs to, None for one that no job has made."""
    try:
        return (folder / OWNER_FILE).read_text()
    except OSError:
        return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def delete_model(root: Path, name: str) -> None:
    """Remove a tuned model's folder, its archive, and the exports of the same job.

    Raises `NotFound` for what is no adapter in a folder of its own under `root`.
    """
    folder = root / name
    is_own = not folder.is_symlink() and folder.resolve().parent == root.resolve()
    if not is_own or not (folder / ADAPTER_CONFIG).is_file():
        raise NotFound(f"There is no tuned model {name[:100]!r} here.")
    output = Output(root, name, owner_of(folder) or "")
    for export in get_args(Export):
        exported = root / output.export_name(export)
        if owner_of(exported) == owner_of(folder) is not None:
            _remove(exported)
    output.archive.unlink(missing_ok=True)
    _remove(folder)


def _remove(folder: Path) -> None:
    gone = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_PARTIAL}")
    folder.rename(gone)  # at once: nobody finds half of it
    shutil.rmtree(gone)
