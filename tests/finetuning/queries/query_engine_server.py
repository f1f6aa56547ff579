"""A small query engine on a free port, served by hypercorn in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request

from tests.support.processes import free_port

__all__ = ["QueryEngineServer", "serving"]


@dataclass
class QueryEngineServer:
    """What the engine answers, to be set by a test, and what it was asked."""

    results: bytes = b""
    query_id: Any = "remote-1"
    #: One reply per poll; the last one again and again.
    polls: list[Any] = field(default_factory=list)
    submit_status: int = 200
    results_status: int = 200
    endless: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    polled: int = 0
    url: str = ""

    def app(self) -> Quart:
        app = Quart("query_engine")

        @app.post("/query")
        async def submit() -> Any:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.asked.append({"headers": headers, "body": await request.get_json()})
            if self.submit_status != 200:
                return {"error": "the query names no table"}, self.submit_status
            return {"query_id": self.query_id}

        @app.get("/query/<query_id>")
        async def poll(query_id: str) -> Any:
            reply = self.polls[min(self.polled, len(self.polls) - 1)]
            self.polled += 1
            return ("broken", reply) if isinstance(reply, int) else reply

        @app.get("/results.db")
        async def results() -> Any:
            if self.endless:
                return Response(self._without_end(), 200)
            return self.results, self.results_status

        return app

    async def _without_end(self) -> Any:
        while True:
            yield b"\0" * 65536
            await asyncio.sleep(0)


@contextlib.contextmanager
def serving(server: QueryEngineServer) -> Iterator[QueryEngineServer]:
    port = free_port()
    server.url = f"http://127.0.0.1:{port}"
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.2
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def run() -> None:
        app = server.app()
        app.before_serving(ready.set)
        await serve(app, config, shutdown_trigger=ended.wait)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()
