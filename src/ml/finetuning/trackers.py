"""Trackers that a run's numbers are told to beside its own events: transformers' integrations.

To add one: give it a line in `_TRACKERS` and a name in `Tracker`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ml.errors import UnprocessableInput

__all__ = ["Tracker", "prepare_trackers", "require_trackers", "variables_of"]

Tracker = Literal["tensorboard", "trackio", "mlflow", "wandb"]


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a tracker needs.

    Attributes:
        module: that is imported.
        install: what pip is asked for.
        prefix: how the names of its variables begin, tokens and addresses among them.
        any_of: variables, of which one at least says where the numbers go.
        defaults: variables that say where its files lie, how long training waits for it, and that
            it is told numbers alone.
    """

    module: str
    install: str
    prefix: str
    any_of: Sequence[str] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)


_TRACKERS: Mapping[str, _Needs] = {
    "tensorboard": _Needs(
        "tensorboard",
        "tensorboard",
        "TENSORBOARD_",
        defaults={"TENSORBOARD_LOGGING_DIR": "{folder}/tensorboard"},
    ),
    "trackio": _Needs(
        "trackio", "trackio", "TRACKIO_", defaults={"TRACKIO_DIR": "{shared}/trackio"}
    ),
    "mlflow": _Needs(
        "mlflow",
        "'mlflow-skinny>=3'",
        "MLFLOW_",
        ("MLFLOW_TRACKING_URI",),
        {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        },
    ),
    "wandb": _Needs(
        "wandb",
        "wandb",
        "WANDB_",
        ("WANDB_API_KEY", "WANDB_MODE"),
        {
            "WANDB_DIR": "{folder}",
            "WANDB_RUN_ID": "{job_id}",
            "WANDB_RESUME": "allow",
            "WANDB_SILENT": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_DISABLE_CODE": "true",
            "WANDB_DISABLE_GIT": "true",
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_INIT_TIMEOUT": "30",
        },
    ),
}


def require_trackers(
    names: Iterable[str], is_installed: Callable[[str], bool] | None = None
) -> None:
    """Raise `UnprocessableInput` saying what to install or to set for trackers to work here."""
    here = is_installed or _is_installed
    for name in names:
        needs = _TRACKERS[name]
        if not here(needs.module):
            raise UnprocessableInput(
                f"report_to: {name!r} is not installed here: pip install {needs.install}, "
                "or leave it out"
            )
        if needs.any_of and not any(os.environ.get(variable) for variable in needs.any_of):
            raise UnprocessableInput(
                f"report_to: {name!r} needs {' or '.join(needs.any_of)} in the environment of the "
                "service"
            )


def variables_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the trackers' variables among others, for a job's process that may be elsewhere."""
    prefixes = tuple(needs.prefix for needs in _TRACKERS.values())
    return {name: value for name, value in environment.items() if name.startswith(prefixes)}


def prepare_trackers(names: Collection[str], *, job_id: str, folder: Path, shared: Path) -> None:
    """Say in this process's environment where trackers write, unless that says so already.

    Files of one run are under its `folder`, those of all runs under `shared`.
    """
    places = {"job_id": job_id, "folder": str(folder), "shared": str(shared)}
    for name in names:
        for variable, value in _TRACKERS[name].defaults.items():
            os.environ.setdefault(variable, value.format(**places))


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None
