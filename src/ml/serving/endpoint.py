"""An address that runs the model.

Requests to it pass admission, deadline and the watch for clients that leave; see
`ml.serving.entry`. Each protocol that a service speaks is a few of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ml.errors import ServiceError
from ml.serving.reply import Reply

__all__ = ["Endpoint", "Headers", "InThread"]

#: Names in lower case, as ASGI has them.
Headers = Mapping[bytes, bytes]
#: Runs a function with its arguments in a thread, as `BaseInferenceWorkflow.in_thread` does.
InThread = Callable[..., Awaitable[Any]]


class Endpoint(Protocol):
    """Answers the bodies posted to one address."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the reply to a body.

        Raises a `ServiceError` for what the caller can change, and whatever the workflow raises.
        """

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure in the form that this protocol's clients read."""
