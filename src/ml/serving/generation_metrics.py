"""What Prometheus sees of a language model. Import it as late as `ml.serving.metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from ml.generation.request import FinishReason, Observer
from ml.serving.metrics import LATENCY_BUCKETS

__all__ = ["GenerationMetrics"]

_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 64)


class GenerationMetrics(Observer):
    """Counts what an engine does, in the registry of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queue_seconds = Histogram(
            "generation_queue_seconds",
            "From a request's arrival until it got a slot",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._first_token_seconds = Histogram(
            "generation_first_token_seconds",
            "From a request's arrival to its first token",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._batch_rows = Histogram(
            "generation_batch_rows",
            "Requests that shared one step of the model",
            buckets=_ROWS,
            registry=registry,
        )
        tokens = Counter("generation_tokens", "Tokens read and made", ["kind"], registry=registry)
        self._prompt_tokens = tokens.labels("prompt")
        self._known_tokens = tokens.labels("known")
        self._completion_tokens = tokens.labels("completion")
        self._ended = Counter(
            "generation_ended", "Generations by their end", ["reason"], registry=registry
        )

    def taken_in(self, waited_seconds: float, known_tokens: int) -> None:
        """A request got a slot, where so many tokens of its prompt need not be read again."""
        self._queue_seconds.observe(waited_seconds)
        self._known_tokens.inc(known_tokens)

    def began(self, seconds: float, prompt_tokens: int) -> None:
        """A request's first token was made."""
        self._first_token_seconds.observe(seconds)
        self._prompt_tokens.inc(prompt_tokens)
        self._completion_tokens.inc()

    def stepped(self, rows: int) -> None:
        """One step made a further token for so many requests."""
        self._batch_rows.observe(rows)
        self._completion_tokens.inc(rows)

    def ended(self, reason: FinishReason) -> None:
        """A request ended."""
        self._ended.labels(reason.value).inc()
