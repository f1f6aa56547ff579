"""The door of a service: every HTTP request passes here, in this order.

request id → key → an endpoint: place → body → deadline → loaded → workflow → reply
                 → every other address: Quart

Endpoints, the addresses that run the model, are answered here and not by a Quart view, because
Quart's request object, context and routing cost as much as all the rest together (see
benchmarks/). Shedding, too, has to come before the body is read.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import structlog
from quart.asgi import ASGIHTTPConnection

from ml.caller import set_deadline
from ml.errors import (
    BodyTimeout,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    NotReady,
    OutOfMemory,
    Overloaded,
    PayloadTooLarge,
    ServiceError,
    UnsupportedMediaType,
)
from ml.serving.auth import BROWSER_CHALLENGE, PUBLIC_PATHS
from ml.serving.reply import Reply

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from ml.serving.endpoint import Endpoint

__all__ = ["Entry"]

log = structlog.get_logger(__name__)

#: The status that is logged and counted when the client left before the reply (nginx's 499).
_CLIENT_LEFT = 499
#: Probes and scrapes would drown the log.
_QUIET_PATHS = frozenset(
    {"/health", "/health/live", "/health/ready", "/metrics", "/service-resources"}
)
#: Clients may send any word as a method; each would be a label of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,128}\Z")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Entry(ASGIHTTPConnection):
    """One request; Quart makes an instance for each."""

    app: ServiceApp

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Answer the request."""
        started = time.perf_counter()
        scope = cast(dict[str, Any], self.scope)
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = _request_id(self.headers)
        is_post = scope["method"] == "POST"
        self.endpoint = self.app.endpoints.get(self.path) if is_post else None
        self.status = 0
        self.ending = False
        self._send_raw = send
        structlog.contextvars.bind_contextvars(request_id=self.request_id.decode())
        try:
            await self._route(receive)
        finally:
            self._record(time.perf_counter() - started)

    async def _route(self, receive: Receive) -> None:
        try:
            if self.endpoint is not None or self.path not in PUBLIC_PATHS:
                self.app.keys.check(self.headers.get(b"authorization", b""))
        except ServiceError as error:
            reply = self._refusal(error)
            if b"text/html" in self.headers.get(b"accept", b""):
                reply.headers.append(BROWSER_CHALLENGE)
            await self._send_reply(reply)
            return
        if self.endpoint is None:
            await super().__call__(receive, self._send_from_quart)
        else:
            await self._run_endpoint(self.endpoint, receive)

    def _refusal(self, error: ServiceError) -> Reply:
        if self.endpoint is not None:
            return self.endpoint.refusal(error)
        return self.app.error_form(self.path)(error)

    # --- endpoints ----------------------------------------------------------------------------

    async def _run_endpoint(self, endpoint: Endpoint, receive: Receive) -> None:
        app = self.app
        try:
            app.health.require_hope()
            app.admission.enter()
        except ServiceError as error:
            if isinstance(error, Overloaded):
                app.metrics.shed.inc()
            await self._send_reply(endpoint.refusal(error))
            return
        app.metrics.in_flight.inc()
        try:
            await self._answer_unless_client_leaves(endpoint, receive)
        finally:
            app.admission.leave()
            app.metrics.in_flight.dec()

    async def _answer_unless_client_leaves(self, endpoint: Endpoint, receive: Receive) -> None:
        """Cancel the work as soon as the client closes its connection."""
        task = cast(asyncio.Task[None], asyncio.current_task())
        watch: asyncio.Task[None] | None = None
        left = False

        async def watch_client() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            if not self.ending:  # the server also says "disconnect" behind a whole reply
                left = True
                task.cancel()

        try:
            try:
                body = await self._read_body(receive)
                watch = asyncio.create_task(watch_client())
                reply = await self._answer(endpoint, body)
            except ServiceError as error:
                reply = endpoint.refusal(error)
            await self._send_reply(reply)
        except asyncio.CancelledError:
            if not left:
                await self._refuse_on_shutdown()
                raise
            task.uncancel()
            self.status = _CLIENT_LEFT
            self.app.metrics.cancelled.inc()
        finally:
            if watch is not None:
                watch.cancel()

    async def _answer(self, endpoint: Endpoint, body: bytes) -> Reply:
        if self.app.settings.log_payloads:
            log.info("payload", body=body.decode("utf-8", "replace"))
        seconds = self.app.settings.request_timeout_seconds
        limit = asyncio.timeout(seconds)
        set_deadline(seconds)
        try:
            async with limit:
                await self.app.health.loaded()
                return await endpoint.answer(body, self.headers)
        except ServiceError:
            raise
        except MemoryError as error:
            log.exception("out_of_memory", path=self.path)
            raise OutOfMemory from error
        except (Exception, SystemExit) as error:  # a hook's sys.exit() shall not end the worker
            if isinstance(error, TimeoutError) and limit.expired():
                self.app.metrics.timed_out.inc()
                self.app.health.require_loaded()  # the time may have gone by with waiting for it
                raise DeadlineExceeded(f"Not finished within {seconds:g} seconds.") from None
            log.exception("request_failed", path=self.path)
            raise InternalError(
                f"The service failed; its log has the details under request id "
                f"{self.request_id.decode()}."
            ) from error

    async def _read_body(self, receive: Receive) -> bytes:
        self._check_headers()
        most = self.app.settings.max_body_bytes
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.app.settings.body_timeout_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise InvalidInput("body: the connection closed before the body was whole")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise PayloadTooLarge(f"The body is over {most} bytes.")
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise BodyTimeout from None

    def _check_headers(self) -> None:
        media_type = self.headers.get(b"content-type", b"application/json")
        if not _is_json(media_type):
            raise UnsupportedMediaType
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        length = self.headers.get(b"content-length", b"")
        most = self.app.settings.max_body_bytes
        if length.isdigit() and int(length) > most:
            raise PayloadTooLarge(f"The body has {int(length)} bytes; at most {most} are read.")

    async def _refuse_on_shutdown(self) -> None:
        if not self.status:
            error = NotReady("The service shut down before the request was finished.")
            await self._send_reply(self._refusal(error))

    # --- sending ------------------------------------------------------------------------------

    async def _send_reply(self, reply: Reply) -> None:
        self.status = reply.status
        headers = [
            (b"content-type", reply.content_type),
            (b"x-request-id", self.request_id),
            *reply.headers,
        ]
        if isinstance(reply.body, bytes):
            headers.append((b"content-length", str(len(reply.body)).encode()))
            await self._send_start(headers)
            self.ending = True
            await self._send_raw({"type": "http.response.body", "body": reply.body})
            return
        try:
            await self._send_start(headers)
            await self._send_pieces(reply.body)
        finally:
            await reply.body.aclose()  # type: ignore[attr-defined]

    async def _send_start(self, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send_raw(
            {"type": "http.response.start", "status": self.status, "headers": headers}
        )

    async def _send_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        """Send pieces as they are made; a failure cuts the body, so nobody takes it for whole.

        Servers cut a body when the application returns without having ended it.
        """
        try:
            async for piece in pieces:
                message = {"type": "http.response.body", "body": piece, "more_body": True}
                await self._send_raw(message)
        except (Exception, SystemExit):
            log.exception("stream_failed", path=self.path)
            return
        self.ending = True
        await self._send_raw({"type": "http.response.body", "body": b""})

    async def _send_from_quart(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.request_id)]
            message = {**message, "headers": headers}
        await self._send_raw(message)

    def _record(self, seconds: float) -> None:
        route = cast(dict[str, Any], self.scope).get("route", "")
        if self.endpoint is not None:
            route = self.path
        method = self.scope["method"]
        method = method if method in _METHODS else "other"
        self.app.metrics.record(method, route or "other", self.status, seconds)
        if self.app.settings.log_requests and self.path not in _QUIET_PATHS:
            # Pages that are open read again and again.
            is_quiet = method in ("GET", "HEAD") and self.status < 400
            write = log.debug if is_quiet else log.info
            write(
                "request",
                method=method,
                path=self.path,
                status=self.status,
                milliseconds=round(seconds * 1000, 3),
            )


def _request_id(headers: dict[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.match(given):
        return given
    return b"%032x" % random.getrandbits(128)


def _is_json(media_type: bytes) -> bool:
    kind = media_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (
        kind.startswith(b"application/") and kind.endswith(b"+json")
    )
