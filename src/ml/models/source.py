"""Where a model file comes from: the Hugging Face hub, this machine, or this package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ml.errors import ConfigurationError, UpstreamError
from ml.models.built_in import BUILT_IN_MODELS, built_in_path
from ml.models.what_is_no_model import require_model_file

__all__ = [
    "BuiltInSource",
    "HubSource",
    "LocalSource",
    "ModelSource",
    "built_in_fault",
    "filename_fault",
    "is_repo_id",
    "repo_id_fault",
]

# https://huggingface.co/docs/hub: an owner (absent for a few old models) and a name
_REPO_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]{0,95}")


def is_repo_id(text: str) -> bool:
    """Return whether a text has the form of a hub repository, `owner/name` or `name`."""
    return _REPO_ID.fullmatch(text) is not None


def repo_id_fault(text: str) -> str | None:
    """Return why a text names no repository of the hub, or None."""
    return None if is_repo_id(text) else f"{text!r} is not of the form owner/name"


def filename_fault(text: str) -> str | None:
    """Return why a text names no file of a repository, or None."""
    parts = text.split("/")
    return f"{text!r} is not a file of a repository" if ".." in parts or "" in parts else None


def built_in_fault(name: str) -> str | None:
    """Return why there is no built-in model of a name, or None."""
    if name in BUILT_IN_MODELS:
        return None
    return f"there is no built-in model {name!r}; use {', '.join(BUILT_IN_MODELS)}"


@dataclass(frozen=True)
class HubSource:
    """A file in a repository of the Hugging Face hub.

    A `revision` is a branch, a tag or a commit; a commit pins what is loaded.
    Raises `ConfigurationError` for names that no repository or file can have.
    """

    repo_id: str
    filename: str
    revision: str | None = None

    def __post_init__(self) -> None:
        checks = {"repo_id": repo_id_fault(self.repo_id), "filename": filename_fault(self.filename)}
        faults = [f"{name}: {fault}" for name, fault in checks.items() if fault]
        if faults:
            raise ConfigurationError("\n".join(faults))

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo_id}{revision}:{self.filename}"

    @property
    def model_id(self) -> str:
        """The id by which requests and the node's clients know the model."""
        return f"{self.repo_id}:{self.filename}"

    def fetch(self) -> Path:
        """Return the file's path in the hub's cache, downloaded if it is not there.

        A private repository needs `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`, which the hub's library
        reads. Raises `ConfigurationError` for what does not exist, is not allowed or is no model,
        and `UpstreamError` when the hub cannot be reached and the cache does not have the file.
        """
        import httpx
        from huggingface_hub import errors, hf_hub_download

        try:
            path = hf_hub_download(self.repo_id, self.filename, revision=self.revision)
        except errors.LocalEntryNotFoundError as error:
            raise UpstreamError(
                f"{self}: the hub cannot be reached (or HF_HUB_OFFLINE is set), and the file is "
                "not in the local cache"
            ) from error
        except (OSError, ValueError, httpx.HTTPError) as error:
            raise self._fault(error) from error
        return require_model_file(Path(path))

    def answers_for(self, model_id: str) -> bool:
        """Return whether an id such as `owner/name`, `owner/name:file` or `file` means this file.

        The storage in front (`huggingface/`) and a version behind the name may be there, as in
        the tensor requests of infernet-ml.
        """
        path, _, files = model_id.removeprefix("huggingface/").partition(":")
        if files and self.filename not in files.split(","):
            return False
        repositories = (self.repo_id, f"{self.repo_id}/{self.revision or 'main'}")
        return path in repositories or (not files and path == self.filename)

    def _fault(self, error: Exception) -> ConfigurationError | UpstreamError:
        from huggingface_hub import errors

        token = "set HUGGING_FACE_HUB_TOKEN to a token that may read it"  # noqa: S105 (a sentence)
        if isinstance(error, errors.GatedRepoError):
            return ConfigurationError(f"{self}: access is granted on the hub's page; then {token}")
        if isinstance(error, errors.RepositoryNotFoundError):
            return ConfigurationError(f"{self}: no such repository, or it is private: {token}")
        if isinstance(error, errors.RevisionNotFoundError):
            return ConfigurationError(f"{self}: the repository has no such revision")
        if isinstance(error, errors.EntryNotFoundError):
            return ConfigurationError(f"{self}: the repository has no such file")
        if isinstance(error, errors.HFValidationError):
            return ConfigurationError(f"{self}: {error}")
        return UpstreamError(f"{self}: the download failed: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class LocalSource:
    """A file on this machine, given as its path or as the folder that holds `filename`."""

    path: Path
    filename: str

    def __str__(self) -> str:
        return str(self.path)

    @property
    def model_id(self) -> str:
        """The file's name: where it lies is this machine's own matter."""
        return self._file.name

    def fetch(self) -> Path:
        """Return the file's path. Raises `ConfigurationError` where there is no model file."""
        file = self._file
        if not file.is_file():
            raise ConfigurationError(f"{file}: there is no such model file")
        return require_model_file(file)

    def answers_for(self, model_id: str) -> bool:
        """Return whether an id is the file's name, its path, or the path's end.

        `local/owner/name:file` of infernet-ml is read as such a path.
        """
        parts = Path(model_id.removeprefix("local/").replace(":", "/")).parts
        return bool(parts) and self._file.parts[-len(parts) :] == parts

    @property
    def _file(self) -> Path:
        path = self.path.expanduser()
        return path / self.filename if path.is_dir() else path


@dataclass(frozen=True)
class BuiltInSource:
    """A small model that comes with this package. Raises `ConfigurationError` for other names."""

    name: str

    def __post_init__(self) -> None:
        if fault := built_in_fault(self.name):
            raise ConfigurationError(f"name: {fault}")

    def __str__(self) -> str:
        return f"built-in {self.name}"

    @property
    def model_id(self) -> str:
        """The id by which requests and the node's clients know the model."""
        return self.name

    def fetch(self) -> Path:
        """Return the file's path."""
        return built_in_path(self.name)

    def answers_for(self, model_id: str) -> bool:
        """Return whether an id is the model's name, with or without its file ending."""
        return model_id in (self.name, built_in_path(self.name).name)


ModelSource = HubSource | LocalSource | BuiltInSource
