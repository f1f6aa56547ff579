"""The services that are installed here, found by their form: a package NAME_service with app.py."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.machinery import FileFinder
from importlib.util import find_spec
from pathlib import Path

from ml.errors import ConfigurationError, did_you_mean
from ml.serving.settings import ServingSettings

__all__ = ["find_service", "service_names", "settings_of"]

_ENDING = "_service"


def service_names() -> list[str]:
    """Return the names of all services that can be imported."""
    names = {
        module.name
        for module in pkgutil.iter_modules()
        if module.name.endswith(_ENDING)
        and isinstance(module.module_finder, FileFinder)
        and Path(module.module_finder.path, module.name, "app.py").is_file()
    }
    return sorted(names)


def find_service(text: str) -> str:
    """Return the module that a text means.

    It is a service's name, words of one service's name alone, such as `llm` or `trainer`, or
    another module with a factory, `module:factory`.

    Raises `ConfigurationError`, which names the services, for all else.
    """
    names = service_names()
    if text in names:
        return text
    meant = [name for name in names if set(text.split("_")) <= _words(name)]
    if len(meant) == 1:
        return meant[0]
    module = text.partition(":")[0]
    if not meant and _is_module(module):
        return text
    words = sorted({*names, *(word for name in names for word in _words(name))})
    fault = (
        f"{text!r} may mean {' or '.join(meant)}"
        if meant
        else f"no module named {module!r}, and no such service{did_you_mean(text, words)}"
    )
    raise ConfigurationError(f"{fault}\nThe services are {', '.join(names)}.")


def settings_of(service: str) -> type[ServingSettings]:
    """Return a service's settings. Raises `ConfigurationError` for a module that has none."""
    module = f"{service.partition(':')[0]}.app"
    try:
        settings: type[ServingSettings] = importlib.import_module(module).Settings
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigurationError(f"{module} has no settings to show: {error}") from None
    if not issubclass(settings, ServingSettings):
        raise ConfigurationError(f"{module}.Settings is not a class of ServingSettings")
    return settings


def _words(name: str) -> set[str]:
    return set(name.removesuffix(_ENDING).split("_"))


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # of a part in front, "..", ""
        return False
