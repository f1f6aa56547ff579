"""Requests as a server hands them to an application, without what a client library forbids."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["Answer", "Ask", "ask"]

#: Past it the client leaves: event streams of jobs end with their job alone.
_LEAVES_AFTER_SECONDS = 0.3
#: Nothing that is asked here works for longer than this.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Ask:
    """One request; `path` as a client wrote it, percent-encoded or not."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        query = f"?{self.query.decode('latin-1')}" if self.query else ""
        headers = " ".join(f"{name.decode()}: {value!r}" for name, value in self.headers)
        return f"{self.method} {self.path!r}{query} [{headers}] {self.body[:300]!r}"


@dataclass
class Answer:
    """What came back; `raised` is what the application let through to its server."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    raised: BaseException | None = None

    def json(self) -> Any:
        """Return the body's JSON, or None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


async def ask(app: Any, request: Ask) -> Answer:
    """Send a request to an application; who waits too long for the end of a reply leaves."""
    answer = Answer()
    left = asyncio.Event()
    parts = [request.body]

    async def receive() -> dict[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            pairs = message["headers"]
            answer.headers = {bytes(k).decode().lower(): bytes(v).decode() for k, v in pairs}
            asyncio.get_running_loop().call_later(_LEAVES_AFTER_SECONDS, left.set)
        else:
            answer.body += message.get("body", b"")
            answer.is_whole = not message.get("more_body", False)

    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await app(_scope(request), receive, send)
    except (Exception, SystemExit) as error:
        answer.raised = error
    return answer


def _scope(request: Ask) -> dict[str, Any]:
    raw = quote(request.path, safe="/%:@!$&'()*+,;=-._~", errors="replace")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": request.query,
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *request.headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "extensions": {},
    }
