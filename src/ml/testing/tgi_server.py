"""A server that speaks Text Generation Inference's protocol without a model.

    python -m ml.testing.tgi_server --bind 127.0.0.1:8080 --token-seconds 0.02

answers every prompt with "You asked: " and the prompt, token by token. Tests script it: it can
be slow, refuse with any of TGI's errors, break off, or fail in the middle of a stream. With
`apis=("openai",)` it has no `/generate`, as vLLM has none; without a chat template its chat route
refuses as TGI's does.

Source: the OpenAPI document of Text Generation Inference 3.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import logging
import re
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypercorn.asyncio import serve
from hypercorn.config import Config

__all__ = ["Behaviour", "Received", "TGIServer"]

_END = "</s>"
_CHAT = "/v1/chat/completions"
_NO_TEMPLATE = {"error": "Template error: template not found", "error_type": "template_error"}


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered.

    Attributes:
        tokens: the answer, token by token; by default it repeats the prompt.
        delay_seconds: before the first token, or before the error.
        token_seconds: before each further token.
        status, error, error_type: refuse with these instead; `retry_after` is that header.
        plain_error: refuse with this text in place of TGI's JSON, as a proxy would.
        drop_after: close the connection behind so many tokens of a stream, or in a whole answer.
        fail_after: send an error event behind so many tokens of a stream.
    """

    tokens: Sequence[str] | None = None
    delay_seconds: float = 0.0
    token_seconds: float = 0.0
    status: int = 200
    error: str = "Model is overloaded"
    error_type: str = "overloaded"
    retry_after: str | None = None
    plain_error: str | None = None
    drop_after: int | None = None
    fail_after: int | None = None


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    client_port: int
    headers: dict[str, str]
    body: Any


@dataclass
class TGIServer:
    """An ASGI application with a script.

    Attributes:
        behaviour: for requests without one of their own.
        upcoming: behaviours of the next requests, in their order.
        has_template: whether its model has a chat template.
        is_healthy: what `/health` says.
        received: all requests that run the model.
        left: how many of them were left by their client before the end.
    """

    behaviour: Behaviour = field(default_factory=Behaviour)
    apis: Sequence[str] = ("tgi", "openai")
    model: str = "test/model"
    has_template: bool = True
    is_healthy: bool = True
    upcoming: deque[Behaviour] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    probes: int = 0
    left: int = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port of this machine; yields the URL."""
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop = asyncio.Event()
        task = asyncio.create_task(_serve(self, f"fd://{listener.detach()}", stop))
        try:
            yield url
        finally:
            stop.set()
            await task

    @contextlib.contextmanager
    def serving_in_thread(self) -> Iterator[str]:
        """Serve on a free port from a thread, for callers without an event loop."""
        ready: concurrent.futures.Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]]
        ready = concurrent.futures.Future()

        async def run() -> None:
            end = asyncio.Event()
            async with self.serving() as url:
                ready.set_result((url, asyncio.get_running_loop(), end))
                await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(run()), name="tgi-server")
        thread.start()
        url, loop, end = ready.result(timeout=30)
        try:
            yield url
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()

    # --- the application ----------------------------------------------------------------------

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["path"]
        if scope["method"] == "GET":
            self.probes += 1
            await _send_json(send, *self._information(path))
        elif not self._has(path):
            await _send_json(send, 404, {"error": "not found", "error_type": "not_found"})
        elif path == _CHAT and not self.has_template:
            await _send_json(send, 422, _NO_TEMPLATE)
        else:
            request = Received(path, scope["client"][1], headers, orjson.loads(body))
            self.received.append(request)
            await self._answer_unless_left(request, receive, send)

    def _information(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            if self.is_healthy:
                return 200, None
            return 503, {"error": "unhealthy", "error_type": "healthcheck"}
        if path == "/info" and "tgi" in self.apis:
            info = {"model_id": self.model, "max_input_tokens": 1024, "max_total_tokens": 2048}
            return 200, {**info, "model_pipeline_tag": "text-generation", "version": "3.0.0"}
        if path == "/v1/models" and "openai" in self.apis:
            return 200, {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        return 404, {"error": "not found", "error_type": "not_found"}

    def _has(self, path: str) -> bool:
        api = "openai" if path.startswith("/v1/") else "tgi"
        return api in self.apis and path in ("/", "/generate", "/generate_stream", _CHAT)

    async def _answer_unless_left(self, request: Received, receive: Any, send: Any) -> None:
        behaviour = self.upcoming.popleft() if self.upcoming else self.behaviour
        answer = asyncio.create_task(_answer(request, behaviour, send))
        gone = asyncio.create_task(receive())
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.left += 1
            answer.cancel()
        gone.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _answer(request: Received, behaviour: Behaviour, send: Any) -> None:
    await asyncio.sleep(behaviour.delay_seconds)
    if behaviour.status != 200:
        await _refuse(behaviour, send)
        return
    is_stream = request.path == "/generate_stream" or bool(request.body.get("stream"))
    form = _Chat(request.body) if request.path == _CHAT else _Generate(request)
    tokens, reason = _tokens(behaviour, form.prompt, form.most_tokens)
    if is_stream:
        await _stream(form, tokens, reason, behaviour, send)
        return
    await asyncio.sleep(behaviour.token_seconds * len(tokens))
    if behaviour.drop_after is not None:
        length = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        return  # hypercorn closes the connection of an application that stops here
    await _send_json(send, 200, form.whole(tokens, reason))


def _tokens(behaviour: Behaviour, prompt: str, most: int) -> tuple[list[str], str]:
    tokens = behaviour.tokens
    if tokens is None:
        tokens = re.findall(r"\s*\S+", f"You asked: {prompt}")
    return list(tokens[:most]), "eos_token" if len(tokens) < most else "length"


async def _stream(
    form: _Generate | _Chat, tokens: list[str], reason: str, behaviour: Behaviour, send: Any
) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, event in enumerate(form.events(tokens, reason)):
        if number == behaviour.drop_after:
            return
        if number == behaviour.fail_after:
            error = {"error": behaviour.error, "error_type": behaviour.error_type}
            await _send_piece(send, b"data:" + orjson.dumps(error) + b"\n\n")
            break
        await _send_piece(send, event)
        await asyncio.sleep(behaviour.token_seconds)
    await _send_piece(send, b"", more=False)


class _Generate:
    """`/generate` and its relatives."""

    def __init__(self, request: Received) -> None:
        self.prompt: str = request.body["inputs"]
        self._parameters: dict[str, Any] = request.body.get("parameters") or {}
        self._in_list = request.path == "/"
        self.most_tokens: int = self._parameters.get("max_new_tokens") or 100

    def whole(self, tokens: list[str], reason: str) -> Any:
        answer: dict[str, Any] = {"generated_text": "".join(tokens)}
        if self._parameters.get("details"):
            answer["details"] = self._details(tokens, reason) | {
                "prefill": [],
                "tokens": [_token(number, text) for number, text in enumerate(tokens)],
            }
        return [answer] if self._in_list else answer

    def events(self, tokens: list[str], reason: str) -> Iterator[bytes]:
        sent = [_token(number, text) for number, text in enumerate(tokens)]
        if reason == "eos_token":
            sent.append(_token(len(tokens), _END) | {"special": True})
        for number, token in enumerate(sent):
            is_last = number == len(sent) - 1
            event = {
                "index": number + 1,
                "token": token,
                "generated_text": "".join(tokens) if is_last else None,
                "details": self._details(tokens, reason) if is_last else None,
            }
            yield b"data:" + orjson.dumps(event) + b"\n\n"

    def _details(self, tokens: list[str], reason: str) -> dict[str, Any]:
        seed = self._parameters.get("seed")
        return {
            "finish_reason": reason,
            "generated_tokens": len(tokens),
            "seed": seed,
            "input_length": 1,
        }


class _Chat:
    """`/v1/chat/completions`."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.prompt: str = body["messages"][-1]["content"]
        self.most_tokens: int = body.get("max_tokens") or 100

    def whole(self, tokens: list[str], reason: str) -> Any:
        message = {"role": "assistant", "content": "".join(tokens)}
        return self._object({"message": message}, reason)

    def events(self, tokens: list[str], reason: str) -> Iterator[bytes]:
        for text in tokens:
            delta = {"role": "assistant", "content": text}
            yield b"data: " + orjson.dumps(self._object({"delta": delta}, None)) + b"\n\n"
        yield b"data: " + orjson.dumps(self._object({"delta": {}}, reason)) + b"\n\n"
        yield b"data: [DONE]\n\n"

    def _object(self, content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        finish = {"eos_token": "stop", "length": "length", None: None}[reason]
        choice = {"index": 0, **content, "finish_reason": finish}
        return {"id": "x", "created": 0, "model": "x", "choices": [choice], "usage": None}


def _token(number: int, text: str) -> dict[str, Any]:
    return {"id": number, "text": text, "logprob": -0.5, "special": False}


async def _refuse(behaviour: Behaviour, send: Any) -> None:
    headers = []
    if behaviour.retry_after is not None:
        headers.append((b"retry-after", behaviour.retry_after.encode()))
    if behaviour.plain_error is not None:
        await _send(send, behaviour.status, behaviour.plain_error.encode(), b"text/html", headers)
        return
    error = {"error": behaviour.error, "error_type": behaviour.error_type}
    await _send(send, behaviour.status, orjson.dumps(error), b"application/json", headers)


async def _send_json(send: Any, status: int, value: Any) -> None:
    body = b"" if value is None else orjson.dumps(value)
    await _send(send, status, body, b"application/json", [])


async def _send(
    send: Any, status: int, body: bytes, kind: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await _send_piece(send, body, more=False)


async def _send_piece(send: Any, piece: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _lifespan(receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _serve(app: Any, bind: str, stop: asyncio.Event) -> None:
    config = Config()
    config.bind = [bind]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.errorlog = logging.getLogger("hypercorn.error")
    await serve(app, config, shutdown_trigger=stop.wait)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m ml.testing.tgi_server")
    parser.add_argument("--bind", default="127.0.0.1:8080")
    parser.add_argument("--model", default="test/model")
    parser.add_argument("--no-template", action="store_true", help="its model cannot converse")
    parser.add_argument("--delay-seconds", type=float, default=0.0)
    parser.add_argument("--token-seconds", type=float, default=0.0)
    options = parser.parse_args()
    behaviour = Behaviour(delay_seconds=options.delay_seconds, token_seconds=options.token_seconds)
    has_template = not options.no_template
    server = TGIServer(behaviour=behaviour, model=options.model, has_template=has_template)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, options.bind, asyncio.Event()))


if __name__ == "__main__":
    main()
