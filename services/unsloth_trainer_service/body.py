"""JSON bodies of requests."""

from __future__ import annotations

from typing import Any

import orjson
from quart import request

from ml.errors import InvalidInput, UnprocessableInput


async def json_body() -> Any:
    """Return the request's JSON; raises `UnprocessableInput` where it is none."""
    try:
        return orjson.loads(await request.get_data())
    except orjson.JSONDecodeError as error:
        raise UnprocessableInput(f"the body is no JSON: {error}") from None


async def refuse_body() -> None:
    """Raise `InvalidInput` if the request says more than its address does."""
    if await request.get_data() and await json_body():
        raise InvalidInput("the body is not read here: send none")
