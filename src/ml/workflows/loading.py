"""From the dotted path in `*_WORKFLOW_CLASS` to a workflow, naming the part that failed."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType

from ml.errors import ConfigurationError, ServiceError, did_you_mean
from ml.extras import missing_of_extra, why_not_imported
from ml.workflows.faults import Faults
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

__all__ = ["load_workflow", "load_workflow_class"]


def load_workflow(
    path: str, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
) -> BaseInferenceWorkflow:
    """Return an instance of the class at a dotted path such as `my_package.shout.Shout`.

    Raises `ConfigurationError` that names the module, the attribute, the base class or the
    constructor's argument at fault.
    """
    cls = load_workflow_class(path)
    faults = Faults()
    known = _known_arguments(cls, kwargs or {}, faults)
    workflow = faults.of(_construct, path, cls, args, known)
    faults.tell()
    return workflow


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
    if cls.extra is not None and (missing_packages := missing_of_extra(cls.extra)):
        raise ConfigurationError(f"{class_name}: {missing_packages}")
    return cls


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"no module named {error.name!r} (of {name!r}); is it installed or on PYTHONPATH?"
            ) from error
        raise ConfigurationError(f"module {name!r}: {why_not_imported(error)}") from error
    except Exception as error:
        raise ConfigurationError(
            f"module {name!r} failed while it was imported: {type(error).__name__}: {error}"
        ) from error


def _known_arguments(
    cls: type[BaseInferenceWorkflow], kwargs: Mapping[str, object], faults: Faults
) -> dict[str, object]:
    """Return the keyword arguments that a class takes; the others are faults."""
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(kwargs)
    for name in kwargs:
        if name not in parameters:
            hint = did_you_mean(name, list(parameters))
            faults.add(f"{cls.__name__} takes no argument {name!r}{hint}")
    return {name: value for name, value in kwargs.items() if name in parameters}


def _construct(
    path: str,
    cls: type[BaseInferenceWorkflow],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> BaseInferenceWorkflow:
    try:
        inspect.signature(cls).bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigurationError(f"{cls.__name__}: {error}") from error
    try:
        return cls(*args, **kwargs)
    except (TypeError, ValueError, ServiceError) as error:
        raise ConfigurationError(
            f"{path}: the constructor refused its arguments: {error}"
        ) from error
    except ImportError as error:
        raise ConfigurationError(f"{cls.__name__}: {why_not_imported(error)}") from error
