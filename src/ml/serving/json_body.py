"""JSON bodies of requests, read in one way wherever a view reads one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from pydantic_core import from_json
from quart import request

from ml.errors import InvalidInput

__all__ = ["json_body", "refuse_body"]

#: Up to this size, a thread would cost more than reading it here.
_SMALL_BODY_BYTES = 64 * 1024


async def json_body() -> Any:
    """Return the request's JSON; raises `InvalidInput` where it is none."""
    body = cast(bytes, await request.get_data())
    if len(body) <= _SMALL_BODY_BYTES:
        return _read(body)
    return await asyncio.to_thread(_read, body)


async def refuse_body() -> None:
    """Raise `InvalidInput` if the request says more than its address does."""
    if await request.get_data() and await json_body():
        raise InvalidInput("the body is not read here: send none")


def _read(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None
