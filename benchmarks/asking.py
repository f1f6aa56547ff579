"""Requests to a server, one after the other."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPResponse
from typing import Any, cast

from benchmarks.servers import KEY

__all__ = ["ask", "events", "opened", "wait_until_ready"]


def opened(port: int, path: str, body: Any = None) -> HTTPResponse:
    """Return an answer that is not read yet; a status of 400 and above is an error."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    try:
        return cast("HTTPResponse", urllib.request.urlopen(request, timeout=60))  # noqa: S310
    except urllib.error.HTTPError as error:
        error.msg = f"{path}: {error.msg}: {error.read().decode(errors='replace')[:500]}"
        raise


def ask(port: int, path: str, body: Any = None) -> Any:
    """Return the JSON of an answer."""
    with opened(port, path, body) as reply:
        return json.load(reply)


def events(reply: HTTPResponse) -> list[Any]:
    """Return the data of a stream's events."""
    texts = [line.removeprefix(b"data: ") for line in reply if line.startswith(b"data: ")]
    return [json.loads(text) for text in texts if text.strip() != b"[DONE]"]


def wait_until_ready(port: int, seconds: float) -> None:
    """Return once a service is ready."""
    end = time.monotonic() + seconds
    while True:
        try:
            opened(port, "/health/ready").close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
