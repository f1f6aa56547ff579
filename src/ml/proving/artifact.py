"""A folder of proving artifacts: what ezkl needs to prove the answers of one model.

A file that does not belong to the others would yield proofs that no contract accepts, and one of
another version of ezkl can abort the process. So every file is compared with the manifest before a
native call sees it: by its bytes at first, by its size and time from then on.
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from ezkl_patches import InstanceLayout
from ml.errors import ConfigurationError, NotFound
from ml.proving.failures import ArtifactFault
from ml.proving.manifest import FileRecord, Manifest
from ml.proving.tasks import CircuitFiles

__all__ = [
    "COMPILED",
    "EZKL_VERSION",
    "FILES",
    "Artifact",
    "circuit_files",
    "file_record",
    "require_ezkl",
]

#: The one version whose files and behaviour this library knows.
EZKL_VERSION = "23.0.5"

CIRCUIT, SETTINGS = "network.ezkl", "settings.json"
PROVING_KEY, VERIFYING_KEY, SRS = "pk.key", "vk.key", "kzg.srs"
VERIFIER, SELF_TEST = "verifier.sol", "self_test.json"
#: The files of an artifact beside its manifest.
FILES = (CIRCUIT, SETTINGS, PROVING_KEY, VERIFYING_KEY, SRS, VERIFIER, SELF_TEST)
VERIFIER_CODE, VERIFIER_ABI = "verifier.bin", "verifier.abi.json"
#: Those of an artifact that was built with a Solidity compiler.
COMPILED = (VERIFIER_CODE, VERIFIER_ABI)

_State = tuple[int, int, int]
_COMPILE = (
    "it was built without a Solidity compiler; get verifier.sol, `npm install solc`, and run "
    "python -m ezkl_patches.solidity verifier.sol --out . --solc node_modules/.bin/solcjs"
)


class Artifact:
    """A checked folder of artifacts.

    Attributes:
        manifest: its facts.
        layout: where values stand among the instances of its proofs.
        files: the paths for ezkl.

    Raises `ConfigurationError` that names the file and the fault: missing, altered, of another
    version of ezkl.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.files = circuit_files(folder)
        _require_version(folder, "the artifact", self.manifest.ezkl_version)
        if missing := sorted(set(FILES) - set(self.manifest.files)):
            raise ConfigurationError(f"{folder}: the manifest lacks {', '.join(missing)}")
        try:
            self._states = {
                name: self._checked(name)
                for name in (*FILES, *COMPILED)
                if name in self.manifest.files
            }
        except ArtifactFault as fault:
            raise ConfigurationError(fault.description) from None
        settings = self._settings()
        _require_version(folder, SETTINGS, str(settings.get("version")))
        try:
            self.layout = InstanceLayout.from_settings(settings)
        except ValueError as error:
            raise ConfigurationError(f"{folder / SETTINGS}: {error}") from None

    @property
    def self_test(self) -> str:
        """The document of an input that the circuit takes."""
        return (self.folder / SELF_TEST).read_text()

    def read(self, name: str) -> bytes:
        """Return a file as it was built.

        Raises `NotFound` for what this artifact does not have, `ArtifactFault` for what was altered
        since it was checked.
        """
        if name not in self._states:
            why = f": {_COMPILE}" if name in COMPILED else ""
            raise NotFound(f"the artifact {self.manifest.id} has no {name}{why}")
        self._require_unchanged(name)
        return self._path(name).read_bytes()

    def answers_for(self, model_id: str) -> bool:
        """Return whether an id in a request means this artifact: its name or its id."""
        return model_id in (self.manifest.name, self.manifest.id)

    def require_unchanged(self) -> None:
        """Raise `ArtifactFault` if a file is no longer what the manifest says."""
        for name in self._states:
            self._require_unchanged(name)

    def _require_unchanged(self, name: str) -> None:
        if _state(self._path(name)) != self._states[name]:
            self._states[name] = self._checked(name)

    def _checked(self, name: str) -> _State:
        path, due = self._path(name), self.manifest.files[name]
        state = _state(path)
        found = file_record(path)
        if found.size_bytes != due.size_bytes:
            raise ArtifactFault(
                f"{self._shown(name)} has {found.size_bytes} bytes, not the {due.size_bytes} of "
                "its manifest"
            )
        if found.sha256 != due.sha256:
            raise ArtifactFault(
                f"{self._shown(name)} was altered: its sha256 is not the manifest's"
            )
        return state

    def _settings(self) -> dict[str, Any]:
        settings = json.loads(self._path(SETTINGS).read_bytes())
        if not isinstance(settings, dict):
            raise ConfigurationError(f"{self._path(SETTINGS)}: no JSON object")
        return settings

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _shown(self, name: str) -> str:
        return f"{name} of the artifact {self.manifest.id}"


def circuit_files(folder: Path) -> CircuitFiles:
    """Return the paths in a folder of artifacts."""
    names = (CIRCUIT, SETTINGS, PROVING_KEY, VERIFYING_KEY, SRS)
    return CircuitFiles(*(folder / name for name in names))


def file_record(path: Path) -> FileRecord:
    """Return a file's sha256 and size. Raises `ArtifactFault` if it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileRecord(sha256=digest, size_bytes=file.tell())
    except OSError as error:
        raise ArtifactFault(f"{path.name}: {error.strerror}") from None


def require_ezkl() -> None:
    """Raise `ConfigurationError` unless the version of ezkl that this library knows is there."""
    try:
        installed = metadata.version("ezkl")
    except metadata.PackageNotFoundError:
        raise ConfigurationError("install the extra 'ezkl', which brings ezkl") from None
    if installed != EZKL_VERSION:
        raise ConfigurationError(f"ezkl {installed} is installed; install ezkl=={EZKL_VERSION}")


def _require_version(folder: Path, what: str, version: str) -> None:
    if version != EZKL_VERSION:
        raise ConfigurationError(
            f"{folder}: {what} is of ezkl {version}, which ezkl {EZKL_VERSION} cannot read; "
            "build the artifact again"
        )


def _state(path: Path) -> _State:
    try:
        status = path.stat()
    except OSError as error:
        raise ArtifactFault(f"{path.name}: {error.strerror}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns
