"""What Prometheus sees of several models. Import it as late as `ml.serving.metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ml.serving.metrics import LATENCY_BUCKETS
from ml.workflows.inference.loaded_models import ModelsObserver

__all__ = ["ModelsMetrics"]


class ModelsMetrics(ModelsObserver):
    """Counts the models that come and go, in the registry of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Gauge(
            "models_loaded",
            "Models that are loaded or being loaded",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._bytes = Gauge(
            "models_loaded_bytes",
            "Bytes of their files",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._seconds = Histogram(
            "model_load_seconds",
            "To load a model and run it once, from when it has room",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._failed = Counter(
            "model_load_failures", "Loads of a model that failed", registry=registry
        )
        self._evicted = Counter("model_evictions", "Models that left", registry=registry)

    def changed(self, count: int, size: int) -> None:
        """So many models are loaded or being loaded, and count with so many bytes."""
        self._count.set(count)
        self._bytes.set(size)

    def loaded(self, seconds: float) -> None:
        """A model was loaded."""
        self._seconds.observe(seconds)

    def failed(self) -> None:
        """A model could not be loaded."""
        self._failed.inc()

    def evicted(self) -> None:
        """A model left for others."""
        self._evicted.inc()
