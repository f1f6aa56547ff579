"""What the workflows that prove share: checks of their limits, and the start of their provers."""

from __future__ import annotations

from collections.abc import Sequence

from ml.proving.artifact import Artifact
from ml.proving.prover import Prover
from ml.proving.worker import Worker

__all__ = ["start_provers"]


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
