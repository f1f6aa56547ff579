"""What Prometheus sees. Correct with several workers when `PROMETHEUS_MULTIPROC_DIR` is set.

`prometheus_client` reads that variable while it is imported, so import this module after
`ml.serving.shared_metrics.share_between_workers()`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ml.errors import NotReady

__all__ = ["LATENCY_BUCKETS", "Metrics", "Source"]

log = structlog.get_logger(__name__)

#: Tells metrics that somebody else keeps, such as a database, when they are asked for.
Source = Callable[[], Awaitable[Sequence[Metric]]]

LATENCY_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    180,
)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
#: Prometheus waits ten seconds by default, and misses all of the rest with what is late.
_SOURCE_SECONDS = 3.0


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        #: Asked with each reading of the metrics.
        self.sources: list[Source] = []
        registry = self.registry
        self.requests = Counter(
            "http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "From the first byte to the end of the reply",
            ["route"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "requests_in_flight",
            "Requests at work or waiting",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.shed = Counter(
            "requests_shed", "Requests refused because all places were taken", registry=registry
        )
        self.cancelled = Counter(
            "requests_cancelled", "Requests whose client went away", registry=registry
        )
        self.timed_out = Counter(
            "requests_timed_out", "Requests past their deadline", registry=registry
        )
        self.batch_size = Histogram(
            "inference_batch_size", "Requests run as one batch", buckets=_SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "inference_batch_seconds",
            "One run of a batch",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "inference_queue_seconds",
            "From a request's arrival in the queue to its batch",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "inference_queue_depth",
            "Requests that wait for a batch",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.setup_seconds = Gauge(
            "workflow_setup_seconds",
            "How long the workflow took to load",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.ready = Gauge(
            "workflow_ready",
            "Workers whose workflow is loaded",
            multiprocess_mode="livesum",
            registry=registry,
        )

        self._by_request: dict[tuple[str, str, int], Counter] = {}
        self._by_route: dict[str, Histogram] = {}

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. The labelled children are kept: finding them costs more than adding."""
        counter = self._by_request.get((method, route, status))
        if counter is None:
            counter = self.requests.labels(method, route, str(status))
            self._by_request[method, route, status] = counter
        histogram = self._by_route.get(route)
        if histogram is None:
            histogram = self._by_route[route] = self.seconds.labels(route)
        counter.inc()
        histogram.observe(seconds)

    async def text(self) -> bytes:
        """Return all workers' metrics, and those of the sources, in Prometheus' text format."""
        found = [metric for source in self.sources for metric in await _asked(source)]
        return await asyncio.to_thread(self._written, found)

    def _written(self, found: list[Metric]) -> bytes:
        registry = CollectorRegistry()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(self.registry)
        registry.register(_Found(found))
        return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class _Found(Collector):
    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


async def _asked(source: Source) -> Sequence[Metric]:
    """Return what a source tells; nothing where it cannot, rather than lose all the others."""
    try:
        async with asyncio.timeout(_SOURCE_SECONDS):
            return await source()
    except NotReady:  # what it asks is not there yet
        return []
    except Exception as error:
        name = getattr(source, "__name__", type(source).__name__)
        log.warning("metrics_missing", source=name, error=str(error) or type(error).__name__)
        return []
