"""The door of a service: every HTTP request passes here, in this order.

request id → turn → key, browsers → an endpoint: body → place → deadline → loaded → workflow → reply
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
from typing import TYPE_CHECKING, Any, cast

import structlog
from quart.asgi import ASGIHTTPConnection
from quart.wrappers import Request

from ml import tracing
from ml.caller import set_deadline
from ml.errors import (
    BodyTimeout,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    NotFound,
    NotReady,
    OutOfMemory,
    Overloaded,
    PayloadTooLarge,
    ServiceError,
    UnsupportedMediaType,
    storage_failure,
)
from ml.serving.auth import BROWSER_CHALLENGE, is_public
from ml.serving.browsers import READING_METHODS
from ml.serving.exchange import ClientStalled, Exchange, Receive, Send
from ml.serving.log_words import words_for_the_log
from ml.serving.media_types import require_json, require_media_type, wants_page
from ml.serving.reply import Reply

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from ml.serving.endpoint import Endpoint

__all__ = ["Entry", "NoWebSocket"]

log = structlog.get_logger(__name__)

#: Most requests are answered before it pays to look whether their clients are there still.
_WATCH_AFTER_SECONDS = 0.01
#: The status that is logged and counted when the client left before the reply (nginx's 499).
_CLIENT_LEFT = 499
#: Who asks these gives up soon, and then restarts the service or sends its users elsewhere.
_PROBES = frozenset({"/health", "/health/live", "/health/ready"})
#: Probes and scrapes would drown the log.
_QUIET_PATHS = _PROBES | {"/metrics", "/service-resources"}
#: Clients may send any word as a method; each would be a label of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,128}\Z")
#: Headers that decide something: of two, one would be read here and the other by a proxy.
_SINGLE_HEADERS = (
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"host",
    b"origin",
    b"transfer-encoding",
    b"x-request-id",
)


class Entry(ASGIHTTPConnection):
    """One request; Quart makes an instance for each."""

    app: ServiceApp

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Answer the request."""
        started = time.perf_counter()
        scope = cast(dict[str, Any], self.scope)
        app, self.method = self.app, scope["method"]
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = _request_id(self.headers)
        self.endpoint = app.endpoints.get(self.path) if self.method == "POST" else None
        self.status = 0
        self.waited_seconds = 0.0  # for its place, of the time that it has
        self.exchange = Exchange(
            receive,
            send,
            self.headers,
            app.intake,
            http_version=scope.get("http_version", "1.1"),
            most_bytes=app.settings.max_body_bytes,
            send_seconds=app.settings.send_timeout_seconds,
        )
        structlog.contextvars.bind_contextvars(request_id=self.request_id.decode())
        tracing.came_with(self.request_id, self.headers)
        try:
            if tracing.is_on() and self.path not in _QUIET_PATHS:
                await self._run_traced()
            else:
                await self._take_turn_and_route()
        except ClientStalled:
            self._note_client_left()
        finally:
            self.exchange.close()
            self._record(time.perf_counter() - started)
            scope.pop("error", None)  # its traceback knows us: without this, a circle

    async def _run_traced(self) -> None:
        with tracing.span(self._known_method, "server") as span:
            try:
                await self._take_turn_and_route()
            finally:
                route = self._rule() or "other"
                span.name(f"{self._known_method} {route}")
                span.tell(
                    {
                        "http.request.method": self._known_method,
                        "http.response.status_code": self.status,
                        "http.route": route,
                        "request.id": self.request_id.decode(),
                        "url.path": self.path,
                    }
                )
                if self.status >= 500:
                    span.failed(str(self.status))

    async def _take_turn_and_route(self) -> None:
        if self.path not in _PROBES:
            await self.app.turns.wait()
        await self._route()

    async def _route(self) -> None:
        try:
            self._check_head()
            if preflight := self.app.browsers.preflight(self.method, self.headers):
                await self._send_reply(preflight)
                return
            self._check_caller()
        except ServiceError as error:
            reply = self._refusal(error)
            if reply.status == 401 and wants_page(self.headers.get(b"accept", b"")):
                reply.headers.append(BROWSER_CHALLENGE)
            if self._has_two_lengths():
                reply.headers.append((b"connection", b"close"))
            await self._send_reply(reply)
            return
        if self.endpoint is None:
            await self._run_quart()
        else:
            await self._run_endpoint(self.endpoint)

    def _check_head(self) -> None:
        if not self.path.startswith("/"):  # CONNECT, or OPTIONS *: nothing of a service
            raise NotFound
        if self._has_two_lengths():
            raise InvalidInput("Send Content-Length or Transfer-Encoding, not both.")
        given = cast(dict[str, Any], self.scope)["headers"]
        if len(given) == len(self.headers):
            return
        names = [name for name, _ in given]
        for name in _SINGLE_HEADERS:
            if names.count(name) > 1:
                raise InvalidInput(f"Send one {name.decode().title()} header, not several.")

    def _has_two_lengths(self) -> bool:
        """Return whether a proxy in front may have taken another end of the request than we do."""
        return b"content-length" in self.headers and b"transfer-encoding" in self.headers

    def _check_caller(self) -> None:
        app, headers = self.app, self.headers
        if self.endpoint is not None or not is_public(self.path, headers):
            app.keys.check(headers.get(b"authorization", b""))
            if not app.keys.are_asked_for:
                app.browsers.require_known_host(headers)
        app.browsers.require_own_page(self.method, headers)
        if self.endpoint is not None:
            require_json(headers, or_one_of=app.types_besides_json[self.path])
        elif self.method not in READING_METHODS and self.exchange.has_body:
            require_media_type(app, self.path, self.method, headers)

    def _refusal(self, error: ServiceError) -> Reply:
        cast(dict[str, Any], self.scope)["error"] = error
        if self.endpoint is not None:
            return self.endpoint.refusal(error)
        return self.app.error_form(self.path)(error)

    def _note_client_left(self) -> None:
        self.status = _CLIENT_LEFT
        self.app.metrics.cancelled.inc()

    def _create_request_from_scope(self, send: Any) -> Request:
        request = super()._create_request_from_scope(send)
        limits, path = self.app.body_limits, self.path
        limit = limits.get(path, limits.get(path[: path.rfind("/") + 1]))
        if limit is not None:  # of what waits to be read; the view looks at the whole
            request.body = request.body_class(None, limit)
        return request

    # --- endpoints ----------------------------------------------------------------------------

    async def _run_endpoint(self, endpoint: Endpoint) -> None:
        """Answer a request once it has its place."""
        try:
            await self._enter()
        except ServiceError as error:
            if isinstance(error, Overloaded):
                self.app.metrics.shed.inc()
            await self._send_reply(self._refusal(error))
            return
        except asyncio.CancelledError:
            await self._refuse_on_shutdown()
            raise
        self.app.metrics.in_flight.inc()
        try:
            await self._answer_unless_client_leaves(endpoint)
        finally:
            self.app.admission.leave()
            self.app.metrics.in_flight.dec()

    async def _enter(self) -> None:
        """Take a place for a request whose body is here; when all are taken, a large one is refused
        unread, and a small one waits."""
        app = self.app
        app.health.require_hope()
        self._check_body_headers()
        if self.exchange.is_small:
            await self.exchange.read_body()
            self.waited_seconds = await app.admission.enter()
        else:  # a body that would take memory in line, or time with a refusal
            app.admission.require_place()
            await self.exchange.read_body()
            app.admission.enter_now()

    async def _answer_unless_client_leaves(self, endpoint: Endpoint) -> None:
        """Cancel the work as soon as the client closes its connection."""
        task = cast(asyncio.Task[None], asyncio.current_task())
        left = False

        async def watch_client() -> None:
            nonlocal left
            while (await self.exchange.receive())["type"] != "http.disconnect":
                pass
            if not self.exchange.ending:  # a server says so behind a whole reply, too
                left = True
                task.cancel()

        watches: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        soon = loop.call_later(
            _WATCH_AFTER_SECONDS, lambda: watches.append(loop.create_task(watch_client()))
        )
        try:
            try:
                reply = await self._answer(endpoint, self.exchange.take_body())
            except ServiceError as error:
                reply = self._refusal(error)
            await self._send_reply(reply)
        except asyncio.CancelledError:
            if not left:
                await self._refuse_on_shutdown()
                raise
            task.uncancel()
            self._note_client_left()
        finally:
            soon.cancel()
            for watch in watches:
                watch.cancel()

    async def _answer(self, endpoint: Endpoint, body: bytes) -> Reply:
        if self.app.settings.log_payloads:
            log.info("payload", body=body.decode("utf-8", "replace"))
        seconds = self.app.settings.request_timeout_seconds
        limit = asyncio.timeout(seconds - self.waited_seconds)
        set_deadline(seconds, spent_seconds=self.waited_seconds)
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
            raise storage_failure(error) or InternalError(
                f"The service failed; its log has the details under request id "
                f"{self.request_id.decode()}."
            ) from error

    def _check_body_headers(self) -> None:
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        length = self.headers.get(b"content-length", b"")
        most = self.app.settings.max_body_bytes
        if length.isdigit() and int(length) > most:
            raise PayloadTooLarge(f"The body has {int(length)} bytes; at most {most} are read.")

    async def _refuse_on_shutdown(self) -> None:
        if not self.exchange.begun:
            error = NotReady("The service shut down before the request was finished.")
            await self._send_reply(self._refusal(error))

    # --- Quart --------------------------------------------------------------------------------

    async def _run_quart(self) -> None:
        await super().__call__(self.exchange.receive, self._send_from_quart)
        if self.exchange.gave_up and not self.exchange.begun:
            await self._send_reply(self._refusal(BodyTimeout()))

    async def _send_from_quart(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], *self._own_headers()]
            if self.status >= 400:
                headers += await self.exchange.settle()
            message = {**message, "headers": headers}
        await self.exchange.send(message)

    # --- every reply --------------------------------------------------------------------------

    async def _send_reply(self, reply: Reply) -> None:
        self.status = reply.status
        headers = [(b"content-type", reply.content_type), *self._own_headers(), *reply.headers]
        await self.exchange.reply(reply, headers)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        allowed = self.app.browsers.reply_headers(self.headers)
        return [(b"x-request-id", self.request_id), *allowed]

    @property
    def _known_method(self) -> str:
        return self.method if self.method in _METHODS else "other"

    def _rule(self) -> str:
        """Return the address as its rule has it, without what clients put into it; "" for none."""
        found = cast(dict[str, Any], self.scope).get("route", "")
        return self.path if self.endpoint is not None else str(found)

    def _record(self, seconds: float) -> None:
        scope = cast(dict[str, Any], self.scope)
        route = self._rule()
        method = self._known_method
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
                **words_for_the_log(self.status, scope.get("error"), self.exchange.kept),
            )


class NoWebSocket:
    """Turns away who asks for a WebSocket, of which no service has one: a 403 of the server's."""

    def __init__(self, app: ServiceApp, scope: Any) -> None:
        pass

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Close the connection before it is one."""
        await receive()
        await send({"type": "websocket.close"})


def _request_id(headers: dict[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.match(given):
        return given
    return b"%032x" % random.getrandbits(128)
