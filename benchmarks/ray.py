"""What Ray costs a request and a training step, and what more replicas bring.

    python -m benchmarks.ray [requests] [replicas] [adapters] [steps] [--rounds 3] [--seconds 3]

    requests  the classic service with a small model, by itself and on Ray Serve
    replicas  a heavy model on 1, 2 and 4 replicas
    adapters  a request that is handed on to the replica with its adapter; loading one instead
    steps     a training job by the local executor, and as a job of Ray's

On a cluster of one node that is started for it, by the environment that `make test-ray` made.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Run, load
from benchmarks.ray_adapters import adapters
from benchmarks.ray_jobs import steps
from benchmarks.servers import (
    READY_WITHIN_SECONDS,
    REQUEST,
    ROOT,
    SERVE,
    Server,
    free_port,
    ours,
    started,
)
from tests.support.ray_cluster import RayCluster, ray_command

SECTIONS = ("requests", "replicas", "adapters", "steps")
SMALL_MODEL = {"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}
CONNECTIONS = (1, 32)
REPLICAS = (1, 2, 4)
REPLICAS_CONNECTIONS = 32
#: What stands between clients and replicas, and the variables of the nodes that choose it.
PROXIES = {"Ray's proxy": {}, "HAProxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ray")
    parser.add_argument("sections", nargs="*", metavar="section", help=" ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a run")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if ray_command() is None:
        parser.error("Ray is not installed: make test-ray")
    sections = options.sections or SECTIONS
    for name, variables in PROXIES.items():
        if "requests" in sections:
            with a_cluster(**variables) as cluster:
                requests(cluster, name, options.rounds, options.seconds)
        if "replicas" in sections:
            with a_cluster(**variables) as cluster:
                replicas(cluster, name, options.rounds, options.seconds)
    if "adapters" in sections:
        with a_cluster() as cluster:
            adapters(cluster)
    if "steps" in sections:
        with a_cluster() as cluster:
            steps(cluster, options.rounds)


@contextlib.contextmanager
def a_cluster(**variables: str) -> Iterator[RayCluster]:
    variables |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with RayCluster(head_cpus=4, **variables) as cluster:
        cluster.start_head()
        yield cluster


class OnRay(Server):
    """A service of ours, with the same settings, on replicas of Ray Serve."""

    stop_seconds = 60.0

    def __init__(self, cluster: RayCluster, own: Server, port: int, replicas: int = 1) -> None:
        command = ray_command()
        assert command is not None
        python = str(Path(command).with_name("python"))
        run = [python, *SERVE[1:], own.command[len(SERVE)], "--on=ray", "--cpus=0.5"]
        run += [f"--bind=127.0.0.1:{port}", f"--replicas={replicas}"]
        variables = cluster.environment | {"RAY_ADDRESS": cluster.gcs_address} | own.settings
        super().__init__("on Ray", run, port, own.body, **variables)

    def wait_until_it_answers(self) -> None:
        """Return once all replicas do."""
        end = time.monotonic() + READY_WITHIN_SECONDS
        while f"answers on port {self.port}" not in self.log_tail():
            if time.monotonic() > end:
                raise SystemExit(f"not all replicas run\n{self.log_tail()}")
            time.sleep(0.2)
        super().wait_until_it_answers()


def requests(cluster: RayCluster, proxy: str, count: int, seconds: float) -> None:
    """One connection and many, in turns."""
    own = ours("by itself", model=SMALL_MODEL, log_requests=False)
    ray = OnRay(cluster, own, free_port())
    runs: dict[tuple[str, int], list[Run]] = {}
    with started(own), started(ray):
        for server in (own, ray):
            server.wait_until_it_answers()
            load(server, connections=max(CONNECTIONS), seconds=1)
        for number in range(count):
            for c in CONNECTIONS:
                for server in (own, ray)[:: -1 if number % 2 else 1]:
                    run = load(server, connections=c, seconds=seconds)
                    runs.setdefault((server.name, c), []).append(run)
    print(f"\n| {proxy} | by itself: requests/s, p50 | on Ray | added p50 |\n|---|---|---|---|")
    for c in CONNECTIONS:
        alone, there = runs[own.name, c], runs[ray.name, c]
        added = statistics.median(b.p50_ms - a.p50_ms for a, b in zip(alone, there, strict=True))
        print(f"| c={c} | {_rate_and_time(alone)} | {_rate_and_time(there)} | {added:.1f} ms |")


def _rate_and_time(runs: list[Run]) -> str:
    rate = statistics.median(run.per_second for run in runs)
    return f"{rate:.0f}, {statistics.median(run.p50_ms for run in runs):.1f} ms"


def replicas(cluster: RayCluster, proxy: str, count: int, seconds: float) -> None:
    """A model that takes the processor for longer than Ray does."""
    with tempfile.TemporaryDirectory() as folder:
        from benchmarks.heavy_model import save_heavy_model  # brings torch

        file = Path(folder, "heavy.torch")
        save_heavy_model(file)
        body = Path(folder, "request.json")
        body.write_bytes(REQUEST.read_bytes().replace(b'"double"', b'"float"'))
        model = {"model_source": "LOCAL", "model_args": {"path": str(file)}}
        own = ours(
            "by itself",
            model=model,
            body=body,
            log_requests=False,
            max_batch_size=1,
            max_concurrency=1,
        )
        title = f"69-(8x1024)-2, one thread each, c={REPLICAS_CONNECTIONS}"
        print(f"\n| {title} | requests/s | p50 | p99 |\n|---|---|---|---|")
        _print_loaded("by itself", own, count, seconds)
        port = free_port()  # Ray Serve has one for as long as the cluster lives
        for number in REPLICAS:
            server = OnRay(cluster, own, port, number)
            _print_loaded(f"{proxy}, replicas: {number}", server, count, seconds)


def _print_loaded(title: str, server: Server, count: int, seconds: float) -> None:
    with started(server):
        server.wait_until_it_answers()
        load(server, connections=REPLICAS_CONNECTIONS, seconds=1)
        runs = [
            load(server, connections=REPLICAS_CONNECTIONS, seconds=seconds) for _ in range(count)
        ]
    rate, p50, p99 = (
        statistics.median(getattr(run, name) for run in runs)
        for name in ("per_second", "p50_ms", "p99_ms")
    )
    print(f"| {title} | {rate:.0f} | {p50:.0f} ms | {p99:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
