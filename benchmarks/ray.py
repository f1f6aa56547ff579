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
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ray_adapters, ray_jobs
from benchmarks.figures import Figure
from benchmarks.heavy import heavy_options
from benchmarks.measure import Run, load
from benchmarks.results import Record, Table, recording
from benchmarks.servers import (
    READY_WITHIN_SECONDS,
    ROOT,
    SERVE,
    SMALL_MODEL,
    Server,
    free_port,
    ours,
    started,
)
from tests.support.ray_cluster import RayCluster, ray_command

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
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if ray_command() is None:
        parser.error("Ray is not installed: make test-ray")
    for name in options.sections or SECTIONS:
        with recording(f"ray {name}") as record:
            SECTIONS[name](record, options)


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


def requests(record: Record, options: argparse.Namespace) -> None:
    """One connection and many, in turns."""
    sides = ("by itself", "its p50", "on Ray", "p50 there", "added p50")
    table = record.table("69 doubles, classic service", *sides)
    for proxy, variables in PROXIES.items():
        with a_cluster(**variables) as cluster:
            _requests(table, cluster, proxy, options)


def _requests(table: Table, cluster: RayCluster, proxy: str, options: argparse.Namespace) -> None:
    own = ours("by itself", model=SMALL_MODEL, log_requests=False)
    ray = OnRay(cluster, own, free_port())
    runs: dict[tuple[str, int], list[Run]] = {}
    with started(own), started(ray):
        for server in (own, ray):
            server.wait_until_it_answers()
            load(server, connections=max(CONNECTIONS), seconds=1)
        for number in range(options.rounds):
            for c in CONNECTIONS:
                for server in (own, ray)[:: -1 if number % 2 else 1]:
                    run = load(server, connections=c, seconds=options.seconds)
                    runs.setdefault((server.name, c), []).append(run)
    for c in CONNECTIONS:
        alone, there = runs[own.name, c], runs[ray.name, c]
        added = (b.p50_ms - a.p50_ms for a, b in zip(alone, there, strict=True))
        cells = [*_rate_and_time(alone), *_rate_and_time(there)]
        table.row(f"{proxy}, c={c}", *cells, Figure.of(*added, places=1, unit="ms"))


def _rate_and_time(runs: list[Run]) -> list[Figure]:
    return [
        Figure.of(*(run.per_second for run in runs), places=0, unit="/s"),
        Figure.of(*(run.p50_ms for run in runs), places=1, unit="ms"),
    ]


def replicas(record: Record, options: argparse.Namespace) -> None:
    """A model that takes the processor for longer than Ray does."""
    title = f"69-(8x1024)-2, one thread each, c={REPLICAS_CONNECTIONS}"
    table = record.table(title, "requests per second", "p50", "p99")
    for proxy, variables in PROXIES.items():
        with a_cluster(**variables) as cluster:
            _replicas(table, cluster, proxy, options)


def _replicas(table: Table, cluster: RayCluster, proxy: str, options: argparse.Namespace) -> None:
    with heavy_options() as heavy:
        own = ours("by itself", max_batch_size=1, max_concurrency=1, **heavy)
        _add_loaded(table, f"by itself, in the run of {proxy}", own, options)
        port = free_port()  # Ray Serve has one for as long as the cluster lives
        for number in REPLICAS:
            server = OnRay(cluster, own, port, number)
            _add_loaded(table, f"{proxy}, replicas: {number}", server, options)


def _add_loaded(table: Table, title: str, server: Server, options: argparse.Namespace) -> None:
    with started(server):
        server.wait_until_it_answers()
        load(server, connections=REPLICAS_CONNECTIONS, seconds=1)
        runs = [
            load(server, connections=REPLICAS_CONNECTIONS, seconds=options.seconds)
            for _ in range(options.rounds)
        ]
    p99 = Figure.of(*(run.p99_ms for run in runs), places=0, unit="ms")
    table.row(title, *_rate_and_time(runs), p99)


def adapters(record: Record, _: argparse.Namespace) -> None:
    """A request that is handed on, and what loading an adapter takes."""
    with a_cluster() as cluster:
        ray_adapters.adapters(record, cluster)


def steps(record: Record, options: argparse.Namespace) -> None:
    """A training job by both executors."""
    with a_cluster() as cluster:
        ray_jobs.steps(record, cluster, options.rounds)


SECTIONS = {"requests": requests, "replicas": replicas, "adapters": adapters, "steps": steps}


if __name__ == "__main__":
    main()
