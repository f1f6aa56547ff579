"""What the workflows that prove share: checks of their limits, and the start of their provers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml.proving.artifact import Artifact
from ml.proving.prover import Prover
from ml.proving.worker import Worker

__all__ = ["limit_faults", "start_provers"]


def limit_faults(due: Mapping[str, Any], optional: Mapping[str, Any]) -> list[str]:
    """Return a line for each argument that is no positive, finite number, or None if optional."""
    given = {name: value for name, value in optional.items() if value is not None}
    return [
        f"{name}: give a positive number, not {value!r}"
        for name, value in {**due, **given}.items()
        if not _is_positive(value)
    ]


def start_provers(
    artifacts: Sequence[Artifact],
    *,
    seconds: float,
    memory_limit_bytes: int | None,
    proves_long_ones: bool = True,
) -> tuple[Worker, list[Prover]]:
    """Return a process that proves, and a prover in it for each artifact.

    Each artifact's own input is proved. Without `proves_long_ones`, that of one whose proof took
    longer when it was built is only run.

    Raises `ConfigurationError`, and leaves no process, for an artifact that cannot be used so.
    """
    worker = Worker(memory_limit_bytes=memory_limit_bytes)
    provers = [Prover(artifact, worker) for artifact in artifacts]
    try:
        for prover in provers:
            is_long = prover.artifact.manifest.proof_seconds > seconds
            prover.require_usable(
                memory_limit_bytes=memory_limit_bytes,
                seconds=seconds,
                proves=proves_long_ones or not is_long,
            )
    except BaseException:
        worker.close()
        raise
    return worker, provers


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf
