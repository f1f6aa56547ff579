"""The load generator: keep-alive HTTP/1.1 over plain sockets, in a process of its own.

    python -m benchmarks.load --port 4998 --connections 32 --seconds 3
    python -m benchmarks.load --port 4998 --connections 1024 --seconds 5 --rate 2000

Without a rate the loop is closed: each connection asks again once it is answered. With one it is
open: requests are due at fixed moments, whether or not the server keeps up, and a request's time
counts from the moment it was due. Prints one JSON object; times are in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import uvloop

REQUEST = Path(__file__).with_name("request.json")
LONGEST_WAIT_SECONDS = 10.0
BROKEN = 0  # counted as a status: the connection ended before its answer


class Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._due = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, due: float) -> None:
        self._due = due
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        if len(body) < _content_length(lower):
            return
        self._buffer = b""
        closes = b"connection: close" in lower
        if closes:
            self._transport.close()
        due, self._due = self._due, 0.0
        self._load.answered(self, int(head[9:12]), due, closes=closes)

    def connection_lost(self, error: Exception | None) -> None:
        if self._due:
            due, self._due = self._due, 0.0
            self._load.answered(self, BROKEN, due, closes=True)
        else:
            self._load.lost(self)


def _content_length(head: bytes) -> int:
    name, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"an answer without Content-Length: {name[:80]!r}")
    return int(rest.partition(b"\r\n")[0])


class Load:
    """What is asked, by how many connections, and what came back."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.request = _request(options)
        self._idle: deque[Connection] = deque()
        self._late: deque[float] = deque()  # due, but no connection was free
        self._open = 0
        self._busy = 0
        self._ends = 0.0
        self._cpu_at_start = 0.0
        self._times: dict[int, list[float]] = {}
        self._lateness: list[
            float
        ] = []  # of sending: no connection was free, or this process was behind
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> dict[str, Any]:
        await asyncio.gather(*(self._connect() for _ in range(self._options.connections)))
        self._cpu_at_start = time.process_time()
        started = time.perf_counter()
        self._ends = started + self._options.seconds
        if self._options.rate:
            await self._ask_at_rate(started)
        else:
            while self._idle:
                self._ask(self._idle.popleft(), time.perf_counter())
            await asyncio.sleep(self._options.seconds)
        elapsed = time.perf_counter() - started
        answered = sum(map(len, self._times.values()))
        good = len(self._times.get(200, ()))
        await self._wait_for_the_rest()
        return self._summary(answered / elapsed, good / elapsed)

    async def _connect(self) -> None:
        self._open += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self._options.port
            )
        except OSError:
            self._open -= 1
            return
        self._free(connection)

    def _reconnect(self) -> None:
        task = asyncio.ensure_future(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _free(self, connection: Connection) -> None:
        """Let a connection ask what is due, or lie idle."""
        now = time.perf_counter()
        if self._late:
            self._ask(connection, self._late.popleft())
        elif not self._options.rate and self._ends > 0 and now < self._ends:
            self._ask(connection, now)
        else:
            self._idle.append(connection)

    def _ask(self, connection: Connection, due: float) -> None:
        self._busy += 1
        self._lateness.append(time.perf_counter() - due)
        connection.ask(due)

    async def _ask_at_rate(self, started: float) -> None:
        asked = 0
        while (now := time.perf_counter()) < self._ends:
            while started + asked / self._options.rate <= now:
                due = started + asked / self._options.rate
                asked += 1
                if self._idle:
                    self._ask(self._idle.popleft(), due)
                else:
                    self._late.append(due)
            await asyncio.sleep(0.001)

    async def _wait_for_the_rest(self) -> None:
        end = time.perf_counter() + LONGEST_WAIT_SECONDS
        while (self._busy or self._late) and time.perf_counter() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def answered(self, connection: Connection, status: int, due: float, *, closes: bool) -> None:
        self._busy -= 1
        self._times.setdefault(status, []).append(time.perf_counter() - due)
        if closes:
            self._open -= 1
            self._reconnect()
        else:
            self._free(connection)

    def lost(self, connection: Connection) -> None:
        """An idle connection was closed by the server; one that was busy told `answered`."""
        if connection in self._idle:
            self._idle.remove(connection)
            self._open -= 1
            self._reconnect()

    def _summary(self, per_second: float, good_per_second: float) -> dict[str, Any]:
        good = sorted(self._times.get(200, ()))
        return {
            "per_second": round(per_second, 1),
            "good_per_second": round(good_per_second, 1),
            "statuses": Counter({status: len(times) for status, times in self._times.items()}),
            "unanswered": self._busy + len(self._late),
            "p50_ms": _percentile(good, 0.50),
            "p99_ms": _percentile(good, 0.99),
            "max_ms": _percentile(sorted(t for times in self._times.values() for t in times), 1),
            "sent_late_p50_ms": _percentile(sorted(self._lateness), 0.50),
            "generator_cpu_seconds": round(time.process_time() - self._cpu_at_start, 2),
        }


def _percentile(ordered: list[float], share: float) -> float | None:
    return round(1000 * ordered[int(share * (len(ordered) - 1))], 3) if ordered else None


def _request(options: argparse.Namespace) -> bytes:
    body = options.body.read_bytes().strip()
    lines = [
        f"POST {options.path} HTTP/1.1",
        f"Host: 127.0.0.1:{options.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if options.key:
        lines.append(f"Authorization: Bearer {options.key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.load")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/service_output")
    parser.add_argument("--body", type=Path, default=REQUEST)
    parser.add_argument("--key", help="bearer key")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, help="requests a second, in an open loop")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(Load(options).run())))


if __name__ == "__main__":
    main()
