"""Traces: which request, here or before, is behind what is done now, told to OpenTelemetry.

They are off, and nothing of OpenTelemetry is imported, unless its own environment variables name a
place for them, such as `OTEL_EXPORTER_OTLP_ENDPOINT`. Off, a request's ids still go along to the
servers that are asked because of it.

    with span("prove", attributes={"artifact": name}):
        ...
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from ml.errors import ConfigurationError
from ml.extras import how_to_install

__all__ = [
    "Attributes",
    "Span",
    "begin_span",
    "came_with",
    "goes_with",
    "is_on",
    "span",
    "start_tracing",
    "stop_tracing",
    "variables",
]

#: What is known of a span, by OpenTelemetry's names where it has one; never a text of a request.
Attributes = Mapping[str, str | int | float | bool]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
#: How https://www.w3.org/TR/trace-context/ writes where a request comes from.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")

#: The id and the headers of the request that the current task works for.
_request: ContextVar[tuple[bytes, Mapping[bytes, bytes]] | None] = ContextVar(
    "request", default=None
)
#: OpenTelemetry's tracer of this process; None while traces are off.
_tracer: Any = None
_provider: Any = None


class Span:
    """A piece of work with a beginning and an end, or none while traces are off."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def name(self, name: str) -> None:
        """Give it another name."""
        if self._span is not None:
            self._span.update_name(name)

    def tell(self, attributes: Attributes) -> None:
        """Add what is known of it."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def mark(self, event: str) -> None:
        """Note that something happened now."""
        if self._span is not None:
            self._span.add_event(event)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Make what is begun in the block a part of it; the block may not `yield`."""
        if self._span is None:
            yield
            return
        from opentelemetry import trace

        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def failed(self, reason: str) -> None:
        """Say that it failed; `reason` is the name of an error, and no text of a request."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self) -> None:
        """End it."""
        if self._span is not None:
            self._span.end()


_OFF = Span()


def start_tracing(service: str) -> None:
    """Begin to tell of this process, under this name, if the environment asks for it.

    Raises `ConfigurationError` where that cannot be.
    """
    global _provider, _tracer
    if _tracer is not None or not _is_asked_for():
        return
    if (protocol := _first(_PROTOCOLS)) not in (None, _SPOKEN):
        raise ConfigurationError(
            f"{protocol!r} is no protocol that traces are told by here: leave "
            f"{_PROTOCOLS[1]} out, or give {_SPOKEN}, to a port that speaks it, such as 4318"
        )
    os.environ.setdefault("OTEL_SERVICE_NAME", service)  # for the jobs of this service, too
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"OTEL_*: the environment asks for traces, and {error.name} is not installed: "
            f"{how_to_install('otel')}"
        ) from None
    _provider = TracerProvider()
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)
    _tracer = trace.get_tracer("infernet-ml-services")


def stop_tracing(seconds: float = 3.0) -> None:
    """Send what was not sent yet, which may take so many seconds."""
    if _provider is not None:
        _provider.force_flush(int(seconds * 1000))


def variables() -> dict[str, str]:
    """Return the variables by which a process elsewhere tells of its work as this one does."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def is_on() -> bool:
    """Return whether this process tells of its work."""
    return _tracer is not None


def came_with(request_id: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Say which request the current task works for, by its id and headers as ASGI has them."""
    _request.set((request_id, headers))


def goes_with() -> dict[str, str]:
    """Return the headers by which who is asked next knows what it is asked for."""
    headers = _given()
    if (request := _request.get()) is not None:
        headers["x-request-id"] = request[0].decode()
    if _tracer is not None:
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers


def _given() -> dict[str, str]:
    """Return the headers of the current request that say of which trace it is a part."""
    request = _request.get()
    parent = b"" if request is None else request[1].get(b"traceparent", b"")
    if request is None or not _TRACEPARENT.match(text := parent.decode("latin-1")):
        return {}
    state = request[1].get(b"tracestate", b"").decode("latin-1")
    return {"traceparent": text} | ({"tracestate": state} if state else {})


def span(
    name: str,
    kind: str = "internal",
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
) -> contextlib.AbstractContextManager[Span]:
    """Tell of the work in a `with` block, which does not `yield`; what it begins is a part of it.

    `kind` is `internal`, `server` or `client`. See `begin_span` for `parent`.
    """
    return _NOTHING if _tracer is None else _held(begin_span(name, kind, attributes, parent=parent))


@contextlib.contextmanager
def _held(opened: Span) -> Iterator[Span]:
    try:
        with opened.holding():
            yield opened
    except BaseException as error:
        opened.failed(type(error).__name__)
        raise
    finally:
        opened.end()


def begin_span(
    name: str,
    kind: str = "internal",
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
) -> Span:
    """Begin to tell of work that is no block, such as a stream's; call `end()`.

    It is a part of what surrounds it, or of what the current request came from; else of `parent`, a
    `traceparent` that `goes_with` returned once.
    """
    if _tracer is None:
        return _OFF
    from opentelemetry import propagate, trace

    context = None
    if not trace.get_current_span().get_span_context().is_valid:
        context = propagate.extract(_given() or {"traceparent": parent or ""})
    return Span(
        _tracer.start_span(name, context, trace.SpanKind[kind.upper()], attributes=attributes)
    )


class _Nothing(contextlib.AbstractContextManager[Span]):
    def __enter__(self) -> Span:
        return _OFF

    def __exit__(self, *_: object) -> None:
        pass


_NOTHING = _Nothing()


def _is_asked_for() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in ("", "none", "otlp"):
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER: {exporter!r} is neither otlp nor none")
    return exporter != "none" and (exporter == "otlp" or _first(_ENDPOINTS) is not None)


def _first(variables: tuple[str, ...]) -> str | None:
    """Return the first of these variables that is given."""
    return next((value for name in variables if (value := os.environ.get(name))), None)
