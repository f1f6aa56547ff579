"""Attacks our service on both servers, and prints what it lost (`python -m benchmarks.attack`).

    python -m benchmarks.attack [--seconds 6]

Every attack is aimed at a server that this module started on a loopback port, and bounded in count
and time. During each, `/health/ready` is asked 20 times a second by new connections. Behind each,
when the servers' own limits are over, no place may be taken, and memory has to be where it was
after the same attack before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.attacks import (
    http2_resets,
    request,
    reset_flood,
    slow_readers,
    slow_senders,
    zero_windows,
)
from benchmarks.figures import Figure
from benchmarks.measure import load
from benchmarks.probing import probing, read
from benchmarks.results import Table, recording
from benchmarks.servers import KEY, REQUEST, SMALL_MODEL, Server, ours, running

LIMIT_SECONDS = 3.0  # for bodies to arrive, and for answers to be taken
SLOW_CONNECTIONS = 300
LARGE_CONNECTIONS = 60  # each sends 3 MB
FLOOD_CONNECTIONS = 1000
_PATH = "/service_output"
#: The largest thing that is read without a key.
_LARGE_PATH = "/assets/docs/swagger-ui-bundle.js"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.attack")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each attack")
    options = parser.parse_args()
    with recording("attack") as record:
        columns = ("places lost", "memory before", "after", "/health/ready p50", "p99", "max")
        attack_both(record.table("server and attack", *columns), options.seconds)


def attack_both(table: Table, seconds: float) -> None:
    for kind in ("granian", "hypercorn"):
        server = ours(
            kind,
            model=SMALL_MODEL,
            server=kind,
            log_requests=False,
            body_timeout_seconds=LIMIT_SECONDS,
            send_timeout_seconds=LIMIT_SECONDS,
        )
        with running(server):
            capacity = load(server, connections=32, seconds=2).per_second
            for name, attack in attacks(server, seconds, capacity).items():
                attack_once(table, server, name, attack)


def attacks(server: Server, seconds: float, capacity: float) -> dict[str, Callable[[], Any]]:
    port, body = server.port, REQUEST.read_bytes()
    many = json.dumps({"source": 1, "data": _rows(body, 2000)}).encode()
    head = request(_PATH, b" " * 4000, key=KEY).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def hold(attack: contextlib.AbstractContextManager[Any]) -> None:
        with attack:
            time.sleep(seconds)

    return {
        "none": lambda: time.sleep(seconds),
        "HTTP/2 windows of 0": lambda: hold(
            zero_windows(port, _PATH, body, connections=4, streams=70, key=KEY)
        ),
        "the same without a key": lambda: hold(
            zero_windows(port, _PATH, body, connections=50, streams=100)
        ),
        "HTTP/2 resets": lambda: [http2_resets(port, _PATH, streams=90) for _ in range(20)],
        "resets": lambda: reset_flood(port, request(_PATH, body, key=KEY), 2000),
        "slow senders": lambda: hold(slow_senders(port, head, SLOW_CONNECTIONS)),
        "slow readers": lambda: hold(
            slow_readers(port, request(_PATH, many, key=KEY), LARGE_CONNECTIONS)
        ),
        "slow readers of a file": lambda: hold(
            slow_readers(port, request(_LARGE_PATH, method="GET"), SLOW_CONNECTIONS)
        ),
        f"{FLOOD_CONNECTIONS} connections, 10 x capacity": lambda: load(
            server, connections=FLOOD_CONNECTIONS, seconds=seconds, rate=10 * capacity
        ),
    }


def attack_once(table: Table, server: Server, name: str, attack: Callable[[], Any]) -> None:
    attack()  # once before: what an allocator keeps for the next time is no leak
    time.sleep(LIMIT_SECONDS + 2)
    before = memory_mb(server)
    with probing(server) as times:
        attack()
    time.sleep(LIMIT_SECONDS + 2)
    lost = places_taken(server)
    after = memory_mb(server)
    ordered = sorted(times)
    p99 = ordered[math.ceil(0.99 * (len(ordered) - 1))]
    table.row(
        f"{server.name}: {name}",
        Figure.of(lost, places=0),
        *(Figure.of(memory, places=0, unit="MB") for memory in (before, after)),
        *(
            Figure.of(time, places=0, unit="ms")
            for time in (statistics.median(ordered), p99, ordered[-1])
        ),
    )


def places_taken(server: Server) -> float:
    lines = read(server, "/metrics").decode().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("requests_in_flight ")]
    return float(value)


def memory_mb(server: Server) -> float:
    pages = 0
    for pid in server.processes():
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _rows(body: bytes, count: int) -> Any:
    data = json.loads(body)["data"]
    row = data["values"] if not isinstance(data["values"][0], list) else data["values"][0]
    return {**data, "values": [row] * count}


if __name__ == "__main__":
    main()
