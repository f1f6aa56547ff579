"""Measures the services against peers, in turns, and prints tables of ratios (`make bench`).

    python -m benchmarks.run [small] [heavy] [codecs] [llm] [tgi] [trainer] [proofs]
        [--rounds 3] [--seconds 3] [--answers 1]

    small   69 doubles, a small model: ours, bare Quart, LitServe, BentoML
    heavy   a model of eight layers of 1024: with and without batching, LitServe; overload
    codecs  ABI tensors: ours and infernet-ml's
    llm     a language model: ours on each engine, the engines' libraries without a server,
            `transformers serve`, llama.cpp; vLLM where `make test-vllm` made its environment
    tgi     the TGI client: what it adds to its upstream, and while the upstream is down
    trainer a job's training steps beside a bare TRL script's; events
    proofs  the proof service beside bare ezkl, for circuits of several sizes

The peers live in an environment of their own, benchmarks/.venv, which is made when it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.bandwidth import read_bandwidth
from benchmarks.llm import OPENVINO, OPENVINO_LOOKUP, VLLM, closed_loops, llm_servers, open_loops
from benchmarks.llm_behaviour import behaviour, with_neighbours
from benchmarks.llm_report import Measured, report
from benchmarks.llm_servers import LLMServer, our_llm
from benchmarks.measure import load, ratio_row, rounds
from benchmarks.servers import (
    PEERS_PYTHON,
    REQUEST,
    ROOT,
    Server,
    bare_quart,
    bentoml,
    litserve,
    ours,
)
from benchmarks.tgi import UPSTREAM_DELAYS_MS, overhead, storm, tgi_service, tgi_upstream
from benchmarks.trainer import event_rates, step_times

SECTIONS = ("small", "heavy", "codecs", "llm", "tgi", "trainer", "proofs")
SMALL_MODEL = {"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}
SMALL_CONNECTIONS = (1, 32, 128)
HEAVY_CONNECTIONS = (1, 32, 64)
BATCH = 32
#: Tokens that are guessed at once from the prompt.
LOOKUP = 5
OVERLOAD = 2.0
OVERLOAD_CONNECTIONS = 1024
OVERLOAD_SECONDS = 5.0

AnyServer = TypeVar("AnyServer", bound=Server)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.run")
    parser.add_argument("sections", nargs="*", metavar="section", help=" ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a run of small and heavy")
    parser.add_argument("--answers", type=int, default=1, help="to each connection of llm")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    sections = options.sections or SECTIONS
    install_peers()
    if "small" in sections:
        small(options.rounds, options.seconds)
    if "heavy" in sections:
        heavy(options.rounds, options.seconds)
    if "codecs" in sections:
        codecs()
    if "llm" in sections:
        llm(options.rounds, options.answers)
    if "tgi" in sections:
        tgi(options.rounds, options.seconds)
    if "trainer" in sections:
        step_times(options.rounds)
        event_rates()
    if "proofs" in sections:
        from benchmarks.proofs import proofs  # brings torch

        proofs(options.rounds)


def small(count: int, seconds: float) -> None:
    """69 doubles through keys, validation, metrics and request ids; the peers do without."""
    with running(
        ours("ours", model=SMALL_MODEL, log_requests=False),
        ours("ours, hypercorn", model=SMALL_MODEL, log_requests=False, server="hypercorn"),
        ours("ours, log lines", model=SMALL_MODEL),
        bare_quart(),
        litserve(),
        bentoml(),
    ) as servers:
        runs = rounds(servers, connections=SMALL_CONNECTIONS, seconds=seconds, count=count)
    heading("69 doubles", "ours / peer")
    for own in ("ours", "ours, hypercorn", "ours, log lines"):
        for peer in ("ours, hypercorn", "bare Quart", "LitServe", "BentoML"):
            if own == peer:
                continue
            for c in SMALL_CONNECTIONS:
                print(ratio_row(f"{own} / {peer}, c={c}", runs[own, c], runs[peer, c]))


def heavy(count: int, seconds: float) -> None:
    """A model whose batches cost little more than single runs."""
    with tempfile.TemporaryDirectory() as folder:
        from benchmarks.heavy_model import save_heavy_model  # brings torch

        file = Path(folder, "heavy.torch")
        save_heavy_model(file)
        body = Path(folder, "request.json")
        body.write_bytes(REQUEST.read_bytes().replace(b'"double"', b'"float"'))
        model = {"model_source": "LOCAL", "model_args": {"path": str(file)}}
        options = {"model": model, "body": body, "log_requests": False}
        with running(
            ours("batches", max_batch_size=BATCH, **options),
            ours("batches, hypercorn", max_batch_size=BATCH, server="hypercorn", **options),
            ours("one by one", max_batch_size=1, **options),
            litserve(file, BATCH, body),
        ) as servers:
            runs = rounds(servers, connections=HEAVY_CONNECTIONS, seconds=seconds, count=count)
            heading("69-(8x1024)-2", "batches / other")
            for peer in ("batches, hypercorn", "one by one", "LitServe"):
                for c in HEAVY_CONNECTIONS:
                    title = f"batches / {peer}, c={c}"
                    print(ratio_row(title, runs["batches", c], runs[peer, c]))
            overload(servers[0], max(run.per_second for run in runs["batches", 64]))


def overload(server: Server, capacity: float) -> None:
    print(f"\n### Open loop at {OVERLOAD:g} x the closed loop's best rate\n")
    print("| run | asked | p50 of 200 | p99 of 200 | 503 | neither | sent late, p50 |")
    print("|---|---|---|---|---|---|---|")
    for number in (1, 2, 3):
        run = load(
            server,
            connections=OVERLOAD_CONNECTIONS,
            seconds=OVERLOAD_SECONDS,
            rate=OVERLOAD * capacity,
        )
        asked = sum(run.statuses.values()) + run.unanswered
        neither = asked - run.statuses.get(200, 0) - run.statuses.get(503, 0)
        print(
            f"| {number} | {OVERLOAD * capacity:.0f}/s | {run.p50_ms:.0f} ms | {run.p99_ms:.0f} ms "
            f"| {run.share_of_503:.0%} | {neither} of {asked} | {run.sent_late_ms:.1f} ms |"
        )


def codecs() -> None:
    """Both sides are imported into one process, the peers' environment."""
    print("\n### ABI tensors\n\n```", flush=True)
    subprocess.run(
        [PEERS_PYTHON, ROOT / "benchmarks" / "codecs.py"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    print("```")


def llm(count: int, answers: int) -> None:
    """One language model, the same weights; all servers are up, one at a time is loaded."""
    own = [server for server in llm_servers() if server.name in (OPENVINO, VLLM)]
    own.append(our_llm(OPENVINO_LOOKUP, engine="openvino", prompt_lookup=LOOKUP))
    behaviours = {server.name: behaviour(server) for server in own if isinstance(server, LLMServer)}
    bandwidth = read_bandwidth()
    with running(*llm_servers()) as servers:
        measured = Measured(
            rounds=closed_loops(servers, count=count, answers=answers),
            open_runs=open_loops(servers),
            busy={
                server.name: with_neighbours(server)
                for server in servers
                if isinstance(server, LLMServer) and server.name in behaviours
            },
            behaviours=behaviours,
            bandwidth=bandwidth,
        )
    report(measured)


def tgi(count: int, seconds: float) -> None:
    """A scripted upstream, asked directly and through the service."""
    print("\n### Before a scripted upstream\n")
    print("| upstream | c | direct: p50, p99 | through the service | added p50 | p99 | not 200 |")
    print("|---|---|---|---|---|---|---|")
    for delay_ms in UPSTREAM_DELAYS_MS:
        upstream = tgi_upstream(delay_ms / 1000)
        with running(upstream), running(tgi_service(upstream.port)) as [service]:
            overhead(delay_ms, [upstream, service], count=count, seconds=seconds)
    storm()


def install_peers() -> None:
    folder = PEERS_PYTHON.parent.parent
    requirements = ROOT / "benchmarks" / "requirements.txt"
    stamp = folder / "installed"
    if stamp.exists() and stamp.stat().st_mtime > requirements.stat().st_mtime:
        return
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [PEERS_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", requirements], check=True)
    without = requirements.with_name("requirements-no-deps.txt")
    subprocess.run([*pip, "--no-deps", "-r", without], check=True)
    stamp.touch()


@contextlib.contextmanager
def running(*servers: AnyServer) -> Iterator[Sequence[AnyServer]]:
    with contextlib.ExitStack() as started:
        for server in servers:
            server.start()
            started.callback(server.stop)
        for server in servers:
            server.wait_until_it_answers()
        yield servers


def heading(title: str, ratio: str) -> None:
    print(f"\n### {title}\n\n| {ratio} | requests per second | server CPU per request |")
    print("|---|---|---|")


if __name__ == "__main__":
    main()
