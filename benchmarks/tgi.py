"""What the TGI client service adds to its upstream, and what it does while the upstream is down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.results import Record, Table
from benchmarks.servers import KEY, ROOT, SERVE, Server, free_port, running
from ml.testing.tgi_server import Behaviour, TGIServer

__all__ = ["Rounds", "overheads", "storm"]

UPSTREAM_DELAYS_MS = (20, 200)

CONNECTIONS = (1, 32, 256)
TEXT = "Is the sky blue during a clear day?"
STORM_CLIENTS = 200
STORM_SECONDS, OUTAGE_SECONDS, DEADLINE_SECONDS = 10.0, 5.0, 8.0
RETRIES = {"tries": 5, "delay": 0.5, "backoff": 2, "max_delay": 3, "jitter": [0, 0.5]}


@dataclass(frozen=True)
class Rounds:
    """How often each is measured, and for how long."""

    count: int
    seconds: float


class Endpoint(Server):
    """A server that answers a text."""

    def __init__(
        self, name: str, command: list[str], port: int, path: str, body: Any, **settings: str
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name, "request.json")
        file.write_text(json.dumps(body))
        super().__init__(name, command, port, file, **settings)
        self.path = path

    def ask(self) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{self.path}",
            self.body.read_bytes(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            answer = str(json.load(reply))
        assert TEXT in answer
        return answer

    def resident_mb(self) -> float:
        pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.processes()]
        return sum(map(int, pages)) * 4096 / 1e6


def tgi_upstream(delay_seconds: float) -> Endpoint:
    port = free_port()
    command = [sys.executable, "-m", "ml.testing.tgi_server", f"--bind=127.0.0.1:{port}"]
    command.append(f"--delay-seconds={delay_seconds}")
    return Endpoint("direct", command, port, "/generate", {"inputs": TEXT})


def tgi_service(upstream_port: int, **settings: str) -> Endpoint:
    port = free_port()
    command = [*SERVE, "tgi_client_inference_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
    return Endpoint(
        "through the service",
        command,
        port,
        "/service_output",
        {"source": 1, "data": {"text": TEXT}},
        TGI_INF_WORKFLOW_POSITIONAL_ARGS=json.dumps([f"http://127.0.0.1:{upstream_port}", 30]),
        TGI_INF_WORKFLOW_KW_ARGS=json.dumps({"retry_params": RETRIES}),
        TGI_INF_API_KEYS=KEY,
        TGI_INF_LOG_REQUESTS="false",
        TGI_INF_MAX_IN_FLIGHT="512",
        TGI_INF_DRAIN_DELAY_SECONDS="0",
        **settings,
    )


def overheads(record: Record, rounds: Rounds) -> None:
    """Measure what the service adds to upstreams that take some time."""
    sides = ("direct", "p50", "p99", "through the service", "its p50", "its p99")
    table = record.table("upstream", *sides, "added p50", "added p99", "not 200")
    shares: list[tuple[str, list[Figure]]] = []
    for delay_ms in UPSTREAM_DELAYS_MS:
        upstream = tgi_upstream(delay_ms / 1000)
        with running(upstream), running(tgi_service(upstream.port)) as [service]:
            shares += overhead(table, delay_ms, [upstream, service], rounds)
    of_all = f"of all connections' requests, on {os.cpu_count()} processors"
    table = record.table(
        "CPU per request through the service", "upstream", "service", "generator", of_all
    )
    for name, cells in shares:
        table.row(name, *cells)


def overhead(
    table: Table, delay_ms: int, servers: Sequence[Endpoint], rounds: Rounds
) -> Iterator[tuple[str, list[Figure]]]:
    """Add a row for each number of connections; yield its name and who took how much CPU."""
    for connections in CONNECTIONS:
        pairs = []
        for number in range(rounds.count):
            turns = servers[:: -1 if number % 2 else 1]
            runs = {
                server.name: _load(server, connections, rounds.seconds, servers) for server in turns
            }
            pairs.append([runs[server.name] for server in servers])
        cells = [figure for side in zip(*pairs, strict=True) for figure in _figures(side)]
        for name in ("p50_ms", "p99_ms"):
            added = (ours[name] - direct[name] for direct, ours in pairs)
            cells.append(Figure.of(*added, places=1, unit="ms"))
        failed = sum(
            n for _, run in pairs for status, n in run["statuses"].items() if status != "200"
        )
        name = f"{delay_ms} ms, c={connections}"
        table.row(name, *cells, Figure.of(failed, places=0))
        yield name, _shares([ours for _, ours in pairs], connections)


def _shares(runs: Sequence[dict[str, Any]], connections: int) -> list[Figure]:
    """Return the CPU of a request, and the least time that one for each connection takes."""
    shares = [
        Figure.of(*each, places=0, unit="µs")
        for each in zip(*(run["cpu_us"] for run in runs), strict=True)
    ]
    all_ms = (sum(run["cpu_us"]) * connections / (os.cpu_count() or 1) / 1000 for run in runs)
    return [*shares, Figure.of(*all_ms, places=0, unit="ms")]


def storm(record: Record) -> None:
    """Let the upstream say 503 for some seconds to clients that all try again."""
    upstream = TGIServer(behaviour=Behaviour(delay_seconds=0.02))
    with upstream.serving_in_thread() as url:
        service = tgi_service(
            int(url.rpartition(":")[2]), TGI_INF_REQUEST_TIMEOUT_SECONDS=str(DEADLINE_SECONDS)
        )
        service.start()
        try:
            service.wait_until_it_answers()
            _load(service, STORM_CLIENTS, 2)
            before, asked = service.resident_mb(), len(upstream.received)
            down = threading.Thread(target=_outage, args=(upstream,))
            down.start()
            run = _load(service, STORM_CLIENTS, STORM_SECONDS)
            down.join()
            table = record.table(
                f"retry storm: {STORM_CLIENTS} clients, upstream 503 for {OUTAGE_SECONDS:g} s of "
                f"{STORM_SECONDS:g} s",
                *("answers 200", "others", "unanswered", "longest", "upstream asked"),
                *("memory before", "after"),
            )
            good = run["statuses"].get("200", 0)
            others = sum(run["statuses"].values()) - good
            counts = (good, others, run["unanswered"])
            table.row(
                "through the service",
                *(Figure.of(count, places=0) for count in counts),
                Figure.of(run["max_ms"], places=0, unit="ms"),
                Figure.of(len(upstream.received) - asked, places=0),
                Figure.of(before, places=0, unit="MB"),
                Figure.of(service.resident_mb(), places=0, unit="MB"),
            )
        finally:
            service.stop()


def _outage(upstream: TGIServer) -> None:
    time.sleep(1)
    healthy, upstream.behaviour = upstream.behaviour, Behaviour(status=503)
    time.sleep(OUTAGE_SECONDS)
    upstream.behaviour = healthy


def _load(
    server: Endpoint, connections: int, seconds: float, watched: Sequence[Endpoint] = ()
) -> dict[str, Any]:
    """Run the load generator; `cpu_us` per answer is of those that are watched, and its own."""
    command = [sys.executable, "-m", "benchmarks.load", f"--port={server.port}", f"--key={KEY}"]
    command += [f"--path={server.path}", f"--body={server.body}"]
    command += [f"--connections={connections}", f"--seconds={seconds}"]
    before = [each.cpu_seconds() for each in watched]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    seconds_of = [each.cpu_seconds() - then for each, then in zip(watched, before, strict=True)]
    result: dict[str, Any] = json.loads(output)
    seconds_of.append(result["generator_cpu_seconds"])
    answers = sum(result["statuses"].values())
    return result | {"cpu_us": [1e6 * each / answers for each in seconds_of]}


def _figures(runs: Sequence[dict[str, Any]]) -> list[Figure]:
    return [
        Figure.of(*(run["per_second"] for run in runs), places=0, unit="/s"),
        Figure.of(*(run["p50_ms"] for run in runs), places=1, unit="ms"),
        Figure.of(*(run["p99_ms"] for run in runs), places=1, unit="ms"),
    ]
