"""A receiver of OpenTelemetry's traces on this machine, by HTTP as collectors have it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.processes import until

__all__ = ["ReceivedSpan", "TraceReceiver"]


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came; ids are in hex, that of no parent is empty."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool


class TraceReceiver:
    """Listens for as long as the block runs; `variables` make a process tell it of its work."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        received = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.extend(_spans(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def wait_for(self, service: str, name: str, trace: str) -> ReceivedSpan:
        """Return the first span of a trace with this name, once it is here."""

        def found() -> ReceivedSpan | None:
            wanted = (service, name, trace)
            spans = list(self.spans)
            return next((s for s in spans if (s.service, s.name, s.trace) == wanted), None)

        span: ReceivedSpan = until(found, f"the span {name} of {service}")
        return span

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _spans(body: bytes) -> list[ReceivedSpan]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        [service] = [
            attribute.value.string_value
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        ]
        found += [
            ReceivedSpan(
                service,
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                {
                    a.key: getattr(a.value, str(a.value.WhichOneof("value")))
                    for a in span.attributes
                },
                span.status.code == 2,
            )
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return found
