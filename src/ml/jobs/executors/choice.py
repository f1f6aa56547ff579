"""Which executors there are, by the names that settings have for them.

To add one: derive it from `Executor` in a file of this folder, and give it a line in `EXECUTORS`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, cast

from ml.errors import ConfigurationError, did_you_mean
from ml.extras import missing_of_extra

if TYPE_CHECKING:
    from ml.jobs.executors.executor import Executor

__all__ = ["EXECUTORS", "KnownExecutor", "executor_class", "require_executor"]


class KnownExecutor(NamedTuple):
    """What is known of an executor before it is imported, which only the chosen one is.

    Attributes:
        path: of its class.
        extra: of this distribution, that it needs.
        heeds_resources: whether it gives a job the `Resources` that are wished for it.
        is_elsewhere: whether jobs run on other hosts, which write into no SQLite file of this one.
        needs: settings that have to be given.
    """

    path: str
    extra: str | None = None
    heeds_resources: bool = False
    is_elsewhere: bool = False
    needs: tuple[str, ...] = ()


EXECUTORS = {
    "local": KnownExecutor("ml.jobs.executors.local.LocalExecutor"),
    "ray": KnownExecutor(
        "ml.jobs.executors.ray.RayExecutor",
        extra="ray",
        heeds_resources=True,
        is_elsewhere=True,
        needs=("ray_address", "ray_token"),
    ),
}


def require_executor(name: str) -> str:
    """Return the name; raises `ConfigurationError` if it is none, or its extra is missing."""
    known = EXECUTORS.get(name)
    if known is None:
        raise ConfigurationError(
            f"{name!r} is none of {', '.join(EXECUTORS)}{did_you_mean(name, list(EXECUTORS))}"
        )
    if known.extra is not None and (missing := missing_of_extra(known.extra)):
        raise ConfigurationError(missing)
    return name


def executor_class(name: str) -> type[Executor]:
    """Return the class of an executor; raises as `require_executor` does."""
    module, _, attribute = EXECUTORS[require_executor(name)].path.rpartition(".")
    return cast("type[Executor]", getattr(importlib.import_module(module), attribute))
