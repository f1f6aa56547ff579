"""Reads a job's server-sent events as a client does."""

from __future__ import annotations

import json
from typing import Any

import httpx


def read_events(url: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Return the events of an address until it closes: `event`, `id` and `data`, where given."""
    found, event = [], {}
    with httpx.stream("GET", url, timeout=110, headers=headers) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                event["data"] = json.loads(value)
            elif name in ("id", "event"):
                event[name] = value
            elif not line and event:
                found.append(event)
                event = {}
    return found
