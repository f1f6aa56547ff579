"""From a workflow's arguments to the source of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ml.errors import ConfigurationError
from ml.models.built_in import BUILT_IN_MODELS
from ml.models.source import BuiltInSource, HubSource, LocalSource, ModelSource, is_repo_id
from ml.workflows.faults import Faults
from ml.workflows.loading import did_you_mean

__all__ = ["checked_dotted_paths", "checked_flag", "find_source"]

#: What `model_args` may hold for each `model_source`; the first one has to be there.
_MODEL_ARGS = {
    "HUGGINGFACE_HUB": ("repo_id", "filename", "revision"),
    "LOCAL": ("path",),
    "BUILT_IN": ("name",),
}
_FORMS = "give one of: model (a path or owner/name), repo_id, path, or model_source with model_args"


def find_source(
    *,
    model: str | PathLike[str] | None,
    repo_id: str | None,
    filename: str | None,
    revision: str | None,
    path: str | PathLike[str] | None,
    model_source: str | None,
    model_args: Mapping[str, Any] | None,
    default_filename: str,
) -> ModelSource:
    """Return the source that the arguments name, in whichever of the forms they name it.

    Raises `ConfigurationError` with all faults, each with its argument: none, several, or
    impossible ones.
    """
    ways = {"model": model, "repo_id": repo_id, "path": path, "model_source": model_source}
    given = [name for name, value in ways.items() if value is not None]
    faults = Faults()
    if model_args is not None and model_source is None:
        faults.add(f"model_args: needs model_source: {', '.join(_MODEL_ARGS)}")
    if len(given) > 1 or (not given and model_args is None):
        faults.add(f"{_FORMS}; given {' and '.join(given) or 'none'}")
    source: ModelSource | None = None
    if model_source is not None:
        if filename is not None or revision is not None:
            faults.add("filename and revision belong into model_args")
        source = faults.of(_from_model_args, model_source, model_args, default_filename)
    else:
        chosen = faults.of(_text, "filename", filename) or default_filename
        wished = faults.of(_text, "revision", revision) or None
        for name in given:
            location = faults.of(_text, name, ways[name])
            if location:
                source = faults.of(_located, name, location, chosen, wished)
    faults.tell()
    assert source is not None  # noqa: S101  (else there is a fault)
    return source


def _located(name: str, location: str, filename: str, revision: str | None) -> ModelSource:
    """Return the source at what was given as `model`, `repo_id` or `path`."""
    if name == "path" or (name == "model" and _is_path(location)):
        if revision is not None:
            raise ConfigurationError("revision: a local path has none")
        return LocalSource(Path(location), filename)
    if name == "model" and "/" not in location:
        raise ConfigurationError(_unclear(location))
    return HubSource(location, filename, revision)


def _from_model_args(
    model_source: str, model_args: Mapping[str, Any] | None, default_filename: str
) -> ModelSource:
    if model_source not in _MODEL_ARGS:
        hint = did_you_mean(str(model_source).upper(), list(_MODEL_ARGS))
        raise ConfigurationError(
            f"model_source: {model_source!r} is none of {', '.join(_MODEL_ARGS)}{hint}"
        )
    if not isinstance(model_args, Mapping):
        raise ConfigurationError(f"model_args: give an object with {_MODEL_ARGS[model_source][0]}")
    texts = _checked_model_args(model_args, _MODEL_ARGS[model_source])
    if model_source == "BUILT_IN":
        return BuiltInSource(texts["name"])
    if model_source == "LOCAL":
        return LocalSource(Path(texts["path"]), default_filename)
    filename = texts.get("filename") or default_filename
    return HubSource(texts["repo_id"], filename, texts.get("revision") or None)


def _checked_model_args(model_args: Mapping[str, Any], known: Sequence[str]) -> dict[str, str]:
    faults = Faults()
    texts: dict[str, str] = {}
    for name, value in model_args.items():
        if name in known:
            texts[name] = faults.of(_text, f"model_args.{name}", value)
        else:
            hint = did_you_mean(str(name), known)
            faults.add(f"model_args: {name!r} is none of {', '.join(known)}{hint}")
    if texts.get(known[0], "") == "":
        faults.add(f"model_args: {known[0]} is missing")
    faults.tell()
    return texts


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | PathLike) or not str(value).strip():
        raise ConfigurationError(f"{name}: give a text that is not empty")
    return str(value)


def _is_path(text: str) -> bool:
    """Tell a path from `owner/name`: it exists, cannot be a repository, or ends like a model."""
    path = Path(text)
    ending = path.suffix in {".torch", ".pt", ".pth", ".pt2", ".jit", ".ts"}
    return path.exists() or not is_repo_id(text) or ending


def _unclear(text: str) -> str:
    hint = did_you_mean(text, BUILT_IN_MODELS)
    if text in BUILT_IN_MODELS:
        hint = (
            f"; for the built-in model set model_source 'BUILT_IN', model_args {{'name': {text!r}}}"
        )
    return f"model: {text!r} is neither a path that exists nor owner/name{hint}"


def checked_flag(name: str, value: Any) -> bool:
    """Return a value. Raises `ConfigurationError` unless it is true or false."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: give true or false, not {value!r}")
    return value


def checked_dotted_paths(paths: Any) -> tuple[str, ...]:
    """Return the `safe_classes`. Raises `ConfigurationError` where one is no dotted path."""
    if not isinstance(paths, list | tuple) or not all(
        isinstance(path, str) and "." in path for path in paths
    ):
        raise ConfigurationError("safe_classes: give a list of dotted paths such as package.Class")
    return tuple(paths)
