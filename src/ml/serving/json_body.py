"""JSON bodies of requests, read in one way wherever a view reads one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from quart import request

from ml.errors import InvalidInput
from ml.json_text import read_json

__all__ = ["json_body", "read_body", "refuse_body"]

#: Up to this size, a thread would cost more than reading it here.
_SMALL_BODY_BYTES = 64 * 1024


async def json_body() -> Any:
    """Return the request's JSON; raises `InvalidInput` where it is none."""
    body = cast(bytes, await request.get_data())
    if len(body) <= _SMALL_BODY_BYTES:
        return read_body(body)
    return await asyncio.to_thread(read_body, body)


async def refuse_body() -> None:
    """Raise `InvalidInput` if the request says more than its address does."""
    if await request.get_data() and await json_body():
        raise InvalidInput("the body is not read here: send none")


def read_body(body: bytes | str) -> Any:
    """Return the JSON of a body; raises `InvalidInput` where it is none."""
    try:
        return read_json(body)
    except ValueError as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None
