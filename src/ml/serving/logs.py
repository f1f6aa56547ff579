"""Log lines on standard output: one form for our own events and for those of libraries."""

from __future__ import annotations

import io
import logging
import os
from typing import Any, Literal

import orjson
import structlog

from ml.serving.hiding import hide_in_event
from ml.serving.output import StandardOutput

__all__ = ["LogFormat", "configure_logging"]

#: They say at level INFO what nobody asks: each request with its address, how tables are made.
_CHATTY = ("httpx", "alembic")

#: `auto` is `console` on a terminal and `json` elsewhere.
LogFormat = Literal["auto", "json", "console"]

#: Switches of libraries that draw progress bars, which would stand between the lines.
_NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")


def configure_logging(level: str, form: LogFormat = "auto") -> None:
    """Send structlog and the standard `logging` to standard output.

    Every line has `timestamp` (ISO 8601, UTC; a terminal gets the local time of day), `level`,
    `event`, and within a request its `request_id`.
    """
    readable = form == "console" or (form == "auto" and os.isatty(1))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
        *([] if readable else [structlog.processors.format_exc_info]),
        hide_in_event,
    ]
    render = _console() if readable else _json
    structlog.configure(
        processors=[*shared, render, _encode],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.BytesLoggerFactory(StandardOutput()),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(io.TextIOWrapper(StandardOutput(), write_through=True))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel("WARNING")
    for switch in _NO_BARS:
        os.environ.setdefault(switch, "1")


def _console() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=os.isatty(1) and "NO_COLOR" not in os.environ,
        pad_event_to=18,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _json(_logger: Any, _method: str, event: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def _encode(_logger: Any, _method: str, line: Any) -> bytes:
    return str(line).encode("utf-8", "backslashreplace")
