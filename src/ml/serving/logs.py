"""JSON log lines on standard output: one form for our own events and for those of libraries."""

from __future__ import annotations

import io
import logging
from typing import Any

import orjson
import structlog

__all__ = ["configure_logging"]


def configure_logging(level: str) -> None:
    """Send structlog and the standard `logging` to standard output as JSON lines.

    Every line has `timestamp` (ISO 8601, UTC), `level`, `event`, and within a request its
    `request_id`.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.BytesLoggerFactory(_standard_output()),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(io.TextIOWrapper(_standard_output(), write_through=True))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=lambda v, **kw: _dumps(v).decode()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("httpx").setLevel("WARNING")  # a line for each request, with its address


def _standard_output() -> io.BufferedWriter:
    return open(1, "wb", closefd=False)


def _dumps(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=str)
