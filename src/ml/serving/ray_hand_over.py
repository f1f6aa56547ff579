"""Requests for an adapter that another replica of a service on Ray Serve has loaded.

Ray's proxy chooses a replica by the head of a request. A client that says there which adapter it
wants, with the header `serve-multiplexed-model-id`, is sent to the right one by
`ml.serving.ray_router`. Of all others the body is known only to the replica they came to. While it
has room, it loads the adapter too, once. Then it hands them on: that costs milliseconds, and one
for each piece of a stream, but drops no adapter that will be asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import structlog
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from ml import tracing
from ml.caller import seconds_left, set_deadline
from ml.errors import ServiceError
from ml.serving.reply import Reply

if TYPE_CHECKING:
    from ml.generation.language_model import LanguageModel
    from ml.serving.app import ServiceApp
    from ml.serving.endpoint import Endpoint, Headers

__all__ = ["Asked", "answer_asked", "hand_over_adapters"]

log = structlog.get_logger(__name__)

#: Where bodies name an adapter, by the protocols of `ml.serving`; or below one of `_AROUND`.
_NAMES = ("model", "model_path", "adapter_id")
_AROUND = ("data", "parameters")
#: A replica may have half of its requests elsewhere. The others are answered by itself, so that two
#: replicas that are full never wait for each other.
_MOST_AWAY = 64
_SECRET_HEADERS = frozenset({b"authorization", b"cookie"})


class Asked(NamedTuple):
    """A request that was let in by another replica: its key, size and place were looked at."""

    path: str
    body: bytes
    headers: Headers
    seconds: float


class _Peers:
    """The replicas of this one's deployment, asked through Ray's own router of requests."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._away = 0

    async def reply(self, adapter: str, asked: Asked) -> Reply | None:
        """Return the reply of the replica with an adapter; None if there is none to be had."""
        if self._away >= _MOST_AWAY:
            return None
        if self._handle is None:
            here = serve.get_replica_context()
            self._handle = serve.get_deployment_handle(here.deployment, here.app_name)
        handle = self._handle.options(stream=True, multiplexed_model_id=adapter)
        pieces = self._pieces(handle.answer_asked.remote(asked))
        try:
            reply: Reply = await anext(pieces)
        except (RayError, RayServeException) as error:
            await pieces.aclose()
            log.warning("not_handed_over", adapter=adapter, error=type(error).__name__)
            return None
        except BaseException:
            await pieces.aclose()
            raise
        if reply.body:
            await pieces.aclose()
            return reply
        return replace(reply, body=pieces)

    async def _pieces(self, answer: Any) -> AsyncGenerator[Any, None]:
        self._away += 1
        try:
            async for piece in answer:
                yield piece
        finally:
            self._away -= 1
            answer.cancel()  # which is nothing to one that is whole


class _SharedEndpoint:
    """An endpoint whose answers by an adapter are given where the adapter is loaded."""

    def __init__(self, path: str, endpoint: Endpoint, model: LanguageModel, peers: _Peers) -> None:
        self.own = endpoint
        self._path, self._model, self._peers = path, model, peers

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as the endpoint itself does."""
        return self.own.refusal(error)

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the reply to a body, by this replica or another one."""
        if adapter := await self._elsewhere(body):
            told = {name: value for name, value in headers.items() if name not in _SECRET_HEADERS}
            asked = Asked(self._path, body, told, seconds_left())
            if reply := await self._peers.reply(adapter, asked):
                return reply
        return await self.own.answer(body, headers)

    async def _elsewhere(self, body: bytes) -> str | None:
        """Return the adapter that a body names, if another replica is to answer by it."""
        adapters, name = self._model.adapters, _name_in(body)
        if adapters is None or name is None or adapters.is_loaded(name) or adapters.room():
            return None
        # Who names it in the head, too, was sent here to have it loaded.
        if name in (self._model.served_name, serve.get_multiplexed_model_id()):
            return None
        return name if await asyncio.to_thread(adapters.is_known, name) else None


def _name_in(body: bytes) -> str | None:
    """Return the model that a body names; what is no body of ours is refused later on."""
    with contextlib.suppress(orjson.JSONDecodeError):
        given = orjson.loads(body)
        for part in (
            (given, *(given.get(key) for key in _AROUND)) if isinstance(given, dict) else ()
        ):
            if isinstance(part, dict):
                found = (part.get(name) for name in _NAMES)
                if name := next((name for name in found if isinstance(name, str)), None):
                    return name
    return None


def hand_over_adapters(app: ServiceApp) -> None:
    """Let the endpoints of a replica's application hand over what is for adapters elsewhere."""
    model = app.workflow.text_generation
    if model is None or model.arguments.adapters_path is None:
        return
    peers = _Peers()
    for path, endpoint in app.endpoints.items():
        app.endpoints[path] = _SharedEndpoint(path, endpoint, model, peers)


async def answer_asked(
    endpoints: Mapping[str, Endpoint], asked: Asked
) -> AsyncGenerator[Reply | bytes, None]:
    """Answer what another replica asks for: yields the reply, and then the pieces of its body."""
    endpoint = endpoints[asked.path]
    if isinstance(endpoint, _SharedEndpoint):
        endpoint = endpoint.own
    request_id = asked.headers.get(b"x-request-id", b"")
    structlog.contextvars.bind_contextvars(request_id=request_id.decode("latin-1"))
    tracing.came_with(request_id, asked.headers)
    set_deadline(asked.seconds)
    try:
        reply = await endpoint.answer(asked.body, asked.headers)
    except ServiceError as error:
        reply = endpoint.refusal(error)
    if isinstance(reply.body, bytes):
        yield reply
        return
    pieces = reply.body
    try:
        yield replace(reply, body=b"")
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]
