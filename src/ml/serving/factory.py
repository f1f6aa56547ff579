"""Applications by the names of their modules."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["build_app"]

_FACTORY = (
    "give a service, or module:factory, a function without arguments that returns what "
    "ml.serving.app.create_service makes"
)


def build_app(service: str) -> ServiceApp:
    """Return the application of a module, of its `create_app`, or of `module:factory`.

    Raises `ConfigurationError` where there is none, and what the factory does: `SystemExit` for
    settings that cannot be.
    """
    from ml.serving.app import ServiceApp

    module, _, name = service.partition(":")
    create = getattr(importlib.import_module(module), name or "create_app", None)
    if create is None:
        raise ConfigurationError(f"{module!r} has no {name or 'create_app'!r}")
    app = create() if _is_factory(create) else None
    if not isinstance(app, ServiceApp):
        raise ConfigurationError(f"{service!r} is no application of this project: {_FACTORY}")
    return app


def _is_factory(create: Any) -> bool:
    """Return whether it is something to call without arguments."""
    try:
        inspect.signature(create).bind()
    except (TypeError, ValueError):  # the latter for what of Python itself has no signature
        return False
    return True
