"""Measures the services against peers, in turns, and prints tables of ratios (`make bench`).

    python -m benchmarks.run [small] [formats] [heavy] [overload] [codecs] [llm] [tgi] [trainer]
        [proofs] [--rounds 3] [--seconds 3] [--answers 1]

    small    69 doubles, a small model: ours, bare Quart, LitServe, BentoML
    formats  the same in ONNX and XGBoost: ours, and bare Quart that calls the library
    heavy    a model of eight layers of 1024: with and without batching, LitServe
    overload both models in an open loop at several times what they can answer
    codecs   ABI tensors: ours and infernet-ml's
    llm      a language model: ours on each engine, the engines' libraries without a server,
             `transformers serve`, llama.cpp; vLLM where `make test-vllm` made its environment
    tgi      the TGI client: what it adds to its upstream, and while the upstream is down
    trainer  a job's training steps beside a bare TRL script's; events
    proofs   the proof service beside bare ezkl, for circuits of several sizes

What a section measures is kept in benchmarks/results.json, of which `python -m benchmarks.page`
makes the page. The peers live in an environment of their own, benchmarks/.venv, which is made when
it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable

from benchmarks.bandwidth import read_bandwidth
from benchmarks.figures import Figure
from benchmarks.heavy import heavy
from benchmarks.llm import OPENVINO, OPENVINO_LOOKUP, VLLM, closed_loops, llm_servers, open_loops
from benchmarks.llm_behaviour import behaviour, with_neighbours
from benchmarks.llm_report import Measured, report
from benchmarks.llm_servers import LLMServer, our_llm
from benchmarks.measure import ratios, rounds
from benchmarks.overload import overload
from benchmarks.results import Record, recording
from benchmarks.servers import (
    PEERS_PYTHON,
    ROOT,
    SMALL_MODEL,
    bare_quart,
    bentoml,
    litserve,
    ours,
    running,
)
from benchmarks.tgi import Rounds, overheads, storm
from benchmarks.trainer import event_rates, step_times

SMALL_CONNECTIONS = (1, 32, 128)
#: Tokens that are guessed at once from the prompt.
LOOKUP = 5

Section = Callable[[Record, argparse.Namespace], None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.run")
    parser.add_argument("sections", nargs="*", metavar="section", help=" ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of a run; not of llm and proofs"
    )
    parser.add_argument("--answers", type=int, default=1, help="to each connection of llm")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    install_peers()
    for name in options.sections or SECTIONS:
        print(f"\n## {name}")
        with recording(name) as record:
            SECTIONS[name](record, options)


def small(record: Record, options: argparse.Namespace) -> None:
    """69 doubles through keys, validation, metrics and request ids; the peers do without."""
    own = [
        ours("ours", model=SMALL_MODEL, log_requests=False),
        ours("ours, hypercorn", model=SMALL_MODEL, log_requests=False, server="hypercorn"),
        ours("ours, one processor", model=SMALL_MODEL, log_requests=False, processor=0),
        ours("ours, log lines", model=SMALL_MODEL),
        ours("ours, hypercorn, log lines", model=SMALL_MODEL, server="hypercorn"),
    ]
    peers = [bare_quart(), litserve(), bentoml()]
    with running(*own, *peers) as servers:
        runs = rounds(
            servers, connections=SMALL_CONNECTIONS, seconds=options.seconds, count=options.rounds
        )
    table = record.table("ours / peer", "requests per second", "server CPU per request")
    for server in own:
        for peer in peers:
            for c in SMALL_CONNECTIONS:
                title = f"{server.name} / {peer.name}, c={c}"
                table.row(title, *ratios(runs[server.name, c], runs[peer.name, c]))
    table = record.table("requests per second", *(f"c={c}" for c in SMALL_CONNECTIONS))
    for server in servers:
        rates = [[run.per_second for run in runs[server.name, c]] for c in SMALL_CONNECTIONS]
        table.row(server.name, *(Figure.of(*each, places=0) for each in rates))


def codecs(record: Record, _: argparse.Namespace) -> None:
    """Both sides are imported into one process, the peers' environment."""
    lines = subprocess.run(
        [PEERS_PYTHON, ROOT / "benchmarks" / "codecs.py"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    table = record.table("ABI tensors", "infernet-ml", "ours", "ratio")
    for line in lines:
        timed = json.loads(line)
        sides = (Figure.of(*timed[side], places=3, unit="ms") for side in ("peer", "ours"))
        table.row(timed["title"], *sides, Figure.ratio(timed["peer"], timed["ours"], 1))


def llm(record: Record, options: argparse.Namespace) -> None:
    """One language model, the same weights; all servers are up, one at a time is loaded."""
    own = [server for server in llm_servers() if server.name in (OPENVINO, VLLM)]
    own.append(our_llm(OPENVINO_LOOKUP, engine="openvino", prompt_lookup=LOOKUP))
    behaviours = {server.name: behaviour(server) for server in own if isinstance(server, LLMServer)}
    bandwidth = read_bandwidth()
    with running(*llm_servers()) as servers:
        measured = Measured(
            rounds=closed_loops(servers, count=options.rounds, answers=options.answers),
            open_runs=open_loops(servers),
            busy={
                server.name: with_neighbours(server)
                for server in servers
                if isinstance(server, LLMServer) and server.name in behaviours
            },
            behaviours=behaviours,
            bandwidth=bandwidth,
        )
    report(record, measured)


def tgi(record: Record, options: argparse.Namespace) -> None:
    """A scripted upstream, asked directly and through the service."""
    overheads(record, Rounds(options.rounds, options.seconds))
    storm(record)


def formats(record: Record, options: argparse.Namespace) -> None:
    """Models of other libraries than torch."""
    from benchmarks.formats import formats as measured  # brings the libraries

    measured(record, options.rounds, options.seconds)


def trainer(record: Record, options: argparse.Namespace) -> None:
    """Steps of a job, and events."""
    step_times(record, options.rounds)
    event_rates(record)


def proofs(record: Record, options: argparse.Namespace) -> None:
    """Proofs of several sizes."""
    from benchmarks.proofs import proofs as measured  # brings torch

    measured(record, options.rounds)


SECTIONS: dict[str, Section] = {
    "small": small,
    "formats": formats,
    "heavy": lambda record, options: heavy(record, options.rounds, options.seconds),
    "overload": lambda record, options: overload(record, options.rounds, options.seconds),
    "codecs": codecs,
    "llm": llm,
    "tgi": tgi,
    "trainer": trainer,
    "proofs": proofs,
}


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


if __name__ == "__main__":
    main()
