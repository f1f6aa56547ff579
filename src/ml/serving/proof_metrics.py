"""What Prometheus sees of proofs. Import it as late as `ml.serving.metrics`."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Histogram

__all__ = ["ProofMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 7200)


class ProofMetrics:
    """Counts proofs by the seconds of their stages, in the registry of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "proof_seconds",
            "One stage of a proof, in place or as a job",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def proved(self, seconds: Mapping[str, float]) -> None:
        """A proof was made, with these seconds of its stages."""
        for stage, value in seconds.items():
            self._seconds.labels(stage).observe(value)
