"""Messages to an application in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from eth_abi.abi import encode

__all__ = [
    "JSON",
    "OFFCHAIN",
    "ONCHAIN",
    "STREAM",
    "abi_text",
    "body",
    "eventually",
    "is_error",
    "open_post",
    "post",
]

ONCHAIN, OFFCHAIN, STREAM = 0, 1, 2
JSON = {"Content-Type": "application/json"}


def abi_text(text: str) -> str:
    """Return the hex of `abi.encode(string)`."""
    return encode(["string"], [text]).hex()


def body(data: Any, *, source: int = OFFCHAIN, **fields: Any) -> bytes:
    return json.dumps({"source": source, "data": data, **fields}).encode()


async def post(app: Any, data: Any, *, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Send a message and return the response."""
    return await app.test_client().post(
        "/service_output", data=body(data, **fields), headers=JSON | (headers or {})
    )


def open_post(app: Any, *, path: str = "/service_output", **headers: str) -> Any:
    """Open a request whose body a test sends, or does not send, bit by bit."""
    return app.test_client().request(path, method="POST", headers=JSON | headers)


async def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait, without blocking the event loop, until a condition holds; fails if it never does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what a test looks at has no event)
            await asyncio.sleep(0.002)


async def is_error(response: Any, status: int) -> str:
    """Check that a response is the one error form with this status; returns its description."""
    assert response.status_code == status
    assert response.content_type == "application/json"
    document = json.loads(await response.get_data())
    assert set(document) == {"code", "name", "description"}
    assert document["code"] == str(status)
    assert document["name"]
    assert document["description"]
    assert response.headers["X-Request-ID"]
    return str(document["description"])
