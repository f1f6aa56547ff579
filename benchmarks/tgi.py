"""What the TGI client service adds to its upstream, and what it does while the upstream is down."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.servers import KEY, ROOT, SERVE, Server, free_port
from ml.testing.tgi_server import Behaviour, TGIServer

__all__ = ["UPSTREAM_DELAYS_MS", "overhead", "storm", "tgi_service", "tgi_upstream"]

UPSTREAM_DELAYS_MS = (20, 200)

CONNECTIONS = (1, 32, 256)
TEXT = "Is the sky blue during a clear day?"
STORM_CLIENTS = 200
STORM_SECONDS, OUTAGE_SECONDS, DEADLINE_SECONDS = 10.0, 5.0, 8.0
RETRIES = {"tries": 5, "delay": 0.5, "backoff": 2, "max_delay": 3, "jitter": [0, 0.5]}


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


def overhead(delay_ms: int, servers: Sequence[Endpoint], *, count: int, seconds: float) -> None:
    """Print a row for each number of connections: the round with the median added latency."""
    direct, through = servers
    for connections in CONNECTIONS:
        pairs = []
        for number in range(count):
            turns = [direct, through][:: -1 if number % 2 else 1]
            runs = {server: _load(server, connections, seconds) for server in turns}
            pairs.append((runs[direct], runs[through]))
        pairs.sort(key=lambda pair: pair[1]["p50_ms"] - pair[0]["p50_ms"])
        plain, ours = pairs[len(pairs) // 2]
        failed = sum(
            n for _, run in pairs for status, n in run["statuses"].items() if status != "200"
        )
        print(
            f"| {delay_ms} ms | {connections} | {_figures(plain)} | {_figures(ours)} "
            f"| {ours['p50_ms'] - plain['p50_ms']:.1f} ms "
            f"| {ours['p99_ms'] - plain['p99_ms']:.1f} ms "
            f"| {failed} |",
            flush=True,
        )


def storm() -> None:
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
            print(
                f"\n{STORM_CLIENTS} clients, upstream 503 for {OUTAGE_SECONDS:g} s of "
                f"{STORM_SECONDS:g} s: answers {run['statuses']}, unanswered {run['unanswered']}, "
                f"longest {run['max_ms']:.0f} ms (deadline {DEADLINE_SECONDS:g} s), upstream asked "
                f"{len(upstream.received) - asked} times, memory {before:.0f} MB before and "
                f"{service.resident_mb():.0f} MB after"
            )
        finally:
            service.stop()


def _outage(upstream: TGIServer) -> None:
    time.sleep(1)
    healthy, upstream.behaviour = upstream.behaviour, Behaviour(status=503)
    time.sleep(OUTAGE_SECONDS)
    upstream.behaviour = healthy


def _load(server: Endpoint, connections: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load", f"--port={server.port}", f"--key={KEY}"]
    command += [f"--path={server.path}", f"--body={server.body}"]
    command += [f"--connections={connections}", f"--seconds={seconds}"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def _figures(run: dict[str, Any]) -> str:
    return f"{run['per_second']:.0f}/s, {run['p50_ms']:.1f}, {run['p99_ms']:.1f} ms"
