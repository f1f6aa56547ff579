"""What a job's process printed: its log file, of which the last lines tell how it ended."""

from __future__ import annotations

from pathlib import Path

from ml.jobs.event_type import EventType, NewEvent

__all__ = ["LOG_FILE", "last_lines", "last_lines_event"]

LOG_FILE = "log.txt"
_LINES, _BYTES = 40, 16_384


def last_lines(folder: Path) -> str:
    """Return the last lines of a job's log file, "" if there are none."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_LINES:])


def last_lines_event(folder: Path) -> list[NewEvent]:
    """Return the last lines as a `log` event, none if there are no lines."""
    text = last_lines(folder)
    return [(EventType.LOG, {"level": "error", "message": text})] if text else []
