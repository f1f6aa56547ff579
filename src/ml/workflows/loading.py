"""From the dotted path in `*_WORKFLOW_CLASS` to a workflow, naming the part that failed."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml.errors import ConfigurationError, ServiceError
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

__all__ = ["did_you_mean", "load_workflow", "load_workflow_class", "unknown_fields"]


def load_workflow(
    path: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> BaseInferenceWorkflow:
    """Return an instance of the class at a dotted path such as `my_package.shout.Shout`.

    Raises `ConfigurationError` that names the module, the attribute, the base class or the
    constructor's argument at fault.
    """
    cls = load_workflow_class(path)
    kwargs = dict(kwargs or {})
    _check_arguments(cls, args, kwargs)
    try:
        return cls(*args, **kwargs)
    except (TypeError, ValueError, ServiceError) as error:
        raise ConfigurationError(
            f"{path}: the constructor refused its arguments: {error}"
        ) from error


def load_workflow_class(
    path: str, base: type[BaseInferenceWorkflow] = BaseInferenceWorkflow
) -> type[BaseInferenceWorkflow]:
    """Return the class at a dotted path, checked to be such a workflow that can be instantiated."""
    module_name, _, class_name = path.strip().rpartition(".")
    if not module_name:
        raise ConfigurationError(f"{path!r} is not a dotted path such as package.module.Class")
    module = _import_module(module_name)
    cls = getattr(module, class_name, None)
    if cls is None:
        names = [name for name, value in vars(module).items() if inspect.isclass(value)]
        hint = did_you_mean(class_name, names)
        raise ConfigurationError(f"module {module_name!r} has no class {class_name!r}{hint}")
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise ConfigurationError(f"{path} is not a subclass of {base.__name__}")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ConfigurationError(f"{path} is abstract: it does not define {missing}")
    return cls


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" for the known name closest to a wrong one, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_fields(given: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return a line for each given name that is not known, with the one that was probably meant."""
    return [
        f"no such field: {name!r}{did_you_mean(name, known)}" for name in given if name not in known
    ]


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"no module named {error.name!r} (of {name!r}); is it installed or on PYTHONPATH?"
            ) from error
        raise ConfigurationError(
            f"module {name!r} needs {error.name!r}, which is not installed"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"module {name!r} failed while it was imported: {type(error).__name__}: {error}"
        ) from error


def _check_arguments(
    cls: type[BaseInferenceWorkflow], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    signature = inspect.signature(cls)
    parameters = signature.parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in kwargs:
            if name not in signature.parameters:
                hint = did_you_mean(name, list(signature.parameters))
                raise ConfigurationError(f"{cls.__name__} takes no argument {name!r}{hint}")
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigurationError(f"{cls.__name__}: {error}") from error
