"""From a workflow's arguments to the source of its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ml.errors import did_you_mean
from ml.models.built_in import BUILT_IN_MODELS
from ml.models.formats.engines import engine_of
from ml.models.source import (
    BuiltInSource,
    HubSource,
    LocalSource,
    ModelSource,
    built_in_fault,
    filename_fault,
    is_repo_id,
    repo_id_fault,
)
from ml.workflows.arguments import Arguments, Location, checked_arguments
from ml.workflows.faults import Faults

__all__ = ["TORCH_ENDINGS", "ModelArguments", "checked_source"]

TORCH_ENDINGS = (".torch", ".pt", ".pth", ".pt2", ".jit", ".ts", ".safetensors")

_FORMS = "give one of: model (a path or owner/name), repo_id, path, or model_source with model_args"


def _without(fault_of: Callable[[str], str | None]) -> AfterValidator:
    def check(text: str) -> str:
        if fault := fault_of(text):
            raise ValueError(fault)
        return text

    return AfterValidator(check)


def _is_path(text: str) -> bool:
    """Tell a path from `owner/name`: it exists, cannot be a repository, or ends like a model."""
    path = Path(text)
    ending = path.suffix.lower()
    ends_so = ending in TORCH_ENDINGS or engine_of(text) is not None
    return path.exists() or not is_repo_id(text) or ends_so


def _model_fault(text: str) -> str | None:
    if _is_path(text) or "/" in text:
        return None
    hint = did_you_mean(text, BUILT_IN_MODELS)
    if text in BUILT_IN_MODELS:
        hint = (
            f"; for the built-in model set model_source 'BUILT_IN', model_args {{'name': {text!r}}}"
        )
    return f"{text!r} is neither a path that exists nor owner/name{hint}"


RepoId = Annotated[Location, _without(repo_id_fault)]
Filename = Annotated[Location, _without(filename_fault)]


class _Hub(Arguments):
    repo_id: RepoId
    filename: Filename | None = None
    revision: Location | None = None

    def source(self, default_filename: str) -> ModelSource:
        return HubSource(self.repo_id, self.filename or default_filename, self.revision)


class _Local(Arguments):
    path: Location

    def source(self, default_filename: str) -> ModelSource:
        return LocalSource(Path(self.path), default_filename)


class _BuiltIn(Arguments):
    name: Annotated[Location, _without(built_in_fault)]

    def source(self, default_filename: str) -> ModelSource:
        return BuiltInSource(self.name)


_Model = _Hub | _Local | _BuiltIn
#: What `model_args` are for each `model_source`.
_MODELS: dict[str, type[_Model]] = {
    "HUGGINGFACE_HUB": _Hub,
    "LOCAL": _Local,
    "BUILT_IN": _BuiltIn,
}


def _kind_fault(text: str) -> str | None:
    if text in _MODELS:
        return None
    hint = did_you_mean(text.upper(), list(_MODELS))
    return f"{text!r} is none of {', '.join(_MODELS)}{hint}"


class ModelArguments(Arguments):
    """Where a model is, in one of several forms."""

    model: Annotated[Location, _without(_model_fault)] | None = Field(
        default=None, description="A path, or a repository of the hub"
    )
    repo_id: RepoId | None = Field(default=None, description="A repository of the hub")
    filename: Filename | None = Field(default=None, description="Its file, or the folder's")
    revision: Location | None = Field(default=None, description="Its branch, tag or commit")
    path: Location | None = Field(default=None, description="A file or a folder")
    model_source: Annotated[Location, _without(_kind_fault)] | None = Field(
        default=None, description=f"One of {', '.join(_MODELS)}"
    )
    model_args: object = Field(default=None, description="An object with what that needs")


def checked_source(
    arguments: ModelArguments | None, given: Mapping[str, object], default_filename: str
) -> ModelSource | None:
    """Return the source that the arguments name; None where they have faults already.

    Raises `ConfigurationError` with what does not go together in all that was `given`.
    """
    faults = Faults()
    given = {name: value for name, value in given.items() if value is not None}
    faults.add(*_faults_between(given))
    model: _Model | None = None
    kind = _MODELS.get(str(given.get("model_source")))
    if kind is not None:
        values = given.get("model_args")
        if isinstance(values, Mapping):
            check = partial(checked_arguments, kind, (), "model_args")
            model = faults.of(check, **{str(name): value for name, value in values.items()})
        else:
            faults.add(f"model_args: give an object with {next(iter(kind.model_fields))}")
    faults.tell()
    if arguments is None:
        return None
    return (model or _named_directly(arguments)).source(arguments.filename or default_filename)


def _faults_between(given: Mapping[str, object]) -> list[str]:
    ways = [name for name in ("model", "repo_id", "path", "model_source") if name in given]
    faults = []
    if "model_args" in given and "model_source" not in given:
        faults.append(f"model_args: needs model_source: {', '.join(_MODELS)}")
    if len(ways) > 1 or (not ways and "model_args" not in given):
        faults.append(f"{_FORMS}; given {' and '.join(ways) or 'none'}")
    if "model_source" in given and {"filename", "revision"} & given.keys():
        faults.append("filename and revision belong into model_args")
    is_local = "path" in given or ("model" in given and _is_path(str(given["model"])))
    if is_local and "revision" in given:
        faults.append("revision: a local path has none")
    return faults


def _named_directly(arguments: ModelArguments) -> _Model:
    if arguments.path is not None:
        return _Local(path=arguments.path)
    name = arguments.repo_id or arguments.model or ""
    if arguments.repo_id is None and _is_path(name):
        return _Local(path=name)
    return _Hub(repo_id=name, revision=arguments.revision)
