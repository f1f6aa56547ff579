"""Failures of views in the words that OpenAI's clients know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from ml.errors import ServiceError
from ml.serving.openai.replies import error_data

View = Callable[..., Awaitable[Any]]


def in_openais_words(view: View) -> View:
    """Return a view whose failures have OpenAI's form."""

    @wraps(view)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return await view(*args, **kwargs)
        except ServiceError as error:
            return error_data(error), error.status

    return wrapped
