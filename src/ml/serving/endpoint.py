"""An address that runs the model.

Requests to it pass admission, deadline and the watch for clients that leave; see
`ml.serving.entry`. Each protocol that a service speaks is a few of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel
from quart import Response
from quart_schema import document_request, document_response

from ml.errors import NotFound, ServiceError
from ml.serving.reply import Reply

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["Endpoint", "Headers", "InThread", "add_endpoint"]

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


def add_endpoint(
    app: ServiceApp,
    path: str,
    endpoint: Endpoint,
    reads: type[BaseModel],
    what_it_does: str,
    answers: type[BaseModel],
    *,
    besides_json: Collection[bytes] = (),
) -> None:
    """Let an endpoint answer what is posted to an address, as JSON or as one of the types besides.

    `reads`, `what_it_does` and `answers` are for the API's document.
    """
    app.endpoints[path] = endpoint
    app.types_besides_json[path] = besides_json

    async def view() -> Response:
        raise NotFound  # as written in `path`, the address is answered by ml.serving.entry

    view.__doc__ = what_it_does
    described = document_response(answers)(document_request(reads)(view))
    app.post(path, endpoint=f"post {path}")(described)
