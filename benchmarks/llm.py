"""The language model over HTTP, streamed: rounds of closed loops in turns, then an open loop."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.llm_servers import (
    VLLM_PYTHON,
    BareEngine,
    LLMServer,
    llama_cpp,
    our_llm,
    transformers_serve,
)
from benchmarks.servers import ROOT
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.openvino_model import openvino_source

__all__ = [
    "BARE_OPENVINO",
    "BARE_OPENVINO_16",
    "BARE_VLLM",
    "CONNECTIONS",
    "LLAMA_CPP",
    "OPENVINO",
    "OPENVINO_16",
    "OPENVINO_LOOKUP",
    "RATE",
    "SERVE_CB",
    "TRANSFORMERS",
    "VLLM",
    "LLMRun",
    "Rounds",
    "closed_loops",
    "llm_servers",
    "load",
    "open_loops",
]

OPENVINO, OPENVINO_16 = "ours, openvino", "ours, openvino fp16"
VLLM, TRANSFORMERS = "ours, vllm", "ours, transformers"
BARE_OPENVINO, BARE_OPENVINO_16 = "openvino-genai, bare", "openvino-genai fp16, bare"
BARE_VLLM = "vllm, bare"
#: Which only a target of its own is measured by.
OPENVINO_LOOKUP = "ours, openvino, prompt lookup"
SERVE_CB, LLAMA_CPP = "transformers serve CB", "llama.cpp, Q4_1"

CONNECTIONS = (1, 8, 16)
#: Requests a second of the open loop, and how long they come.
RATE, SECONDS = 2.0, 12.0
#: An answer of a closed loop that is not there by then is cut, so that a line of 16 is no hour.
LIMIT_SECONDS = 12.0
#: The same for those that are under way when the open loop's last request has come.
DRAIN_SECONDS = 6.0
IDLE_WITHIN_SECONDS = 20.0


@dataclass(frozen=True)
class LLMRun:
    """What one run of the load generator saw; times in seconds, infinite for cut answers."""

    tokens_per_second: float
    #: server CPU per token, all its processes together
    cpu_ms: float
    #: until the first text of an answer
    first_p50: float
    first_p99: float
    latency_p50: float
    latency_p99: float
    answers: int
    unfinished: int
    #: tokens of the whole answers, as a share of those asked for
    length: float


#: Runs of a server at so many connections, by round; rounds may be left out.
Rounds = dict[tuple[str, int], dict[int, LLMRun]]


def llm_servers() -> list[LLMServer | BareEngine]:
    """Return ours and the peers; those of vLLM where the environment of `make test-vllm` is."""
    folder = install()
    int8, fp16 = (str(openvino_source(EMBEDDED_LLM, weights)) for weights in ("int8", "fp16"))
    servers = [
        our_llm(OPENVINO, engine="openvino"),
        BareEngine(BARE_OPENVINO, "openvino", int8),
        our_llm(OPENVINO_16, engine="openvino", weights="fp16"),
        BareEngine(BARE_OPENVINO_16, "openvino", fp16),
        our_llm(TRANSFORMERS, engine="transformers", dtype="bfloat16"),
        transformers_serve(folder),
        llama_cpp(),
    ]
    if VLLM_PYTHON.exists():
        python = str(VLLM_PYTHON)
        servers += [
            our_llm(VLLM, engine="vllm", dtype="bfloat16", python=python),
            BareEngine(BARE_VLLM, "vllm", str(folder), python=python),
        ]
    return servers


def bare_run(server: BareEngine, connections: int, answers: int, tokens: int) -> LLMRun:
    """Let an engine without a server answer as often as a closed loop asks."""
    before = server.cpu_seconds()
    runs = [server.answer(connections, tokens) for _ in range(answers)]
    cpu = server.cpu_seconds() - before
    made = connections * answers * tokens
    seconds = [run.seconds for run in runs]
    first = sorted(each for run in runs for each in run.first)
    return LLMRun(
        tokens_per_second=made / sum(seconds),
        cpu_ms=1e3 * cpu / made,
        first_p50=statistics.median(first),
        first_p99=first[-1],
        latency_p50=statistics.median(seconds),
        latency_p99=max(seconds),
        answers=connections * answers,
        unfinished=0,
        length=1.0,
    )


def load(
    server: LLMServer | BareEngine,
    *,
    connections: int = 1,
    answers: int = 1,
    tokens: int = 64,
    rate: float | None = None,
    limit_seconds: float = LIMIT_SECONDS,
) -> LLMRun:
    """Run the load generator against a server; a closed loop without a rate."""
    if isinstance(server, BareEngine):
        return bare_run(server, connections, answers, tokens)
    target = server.target
    command = [sys.executable, "-m", "benchmarks.llm_load", f"--port={target.port}"]
    command += [f"--protocol={target.protocol}", f"--model={target.model}", f"--key={target.key}"]
    command += [f"--connections={connections}", f"--answers={answers}", f"--tokens={tokens}"]
    command.append(f"--limit={limit_seconds}")
    if rate is not None:
        command += [f"--rate={rate}", f"--seconds={SECONDS}"]
    before = server.cpu_seconds()
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=limit_seconds + 60
    )
    if done.returncode:
        raise SystemExit(f"{server.name} at c={connections}:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    if result["unfinished"]:
        wait_until_idle(server)
    # With what an answer cost after it was cut, though nobody read those tokens.
    cpu = server.cpu_seconds() - before
    names = LLMRun.__dataclass_fields__.keys() - {"cpu_ms"}
    return LLMRun(
        cpu_ms=1e3 * cpu / (result["tokens"] or math.nan), **{name: result[name] for name in names}
    )


def wait_until_idle(server: LLMServer) -> None:
    """Wait while the server still works for clients that are gone."""
    end = time.monotonic() + IDLE_WITHIN_SECONDS
    before = server.cpu_seconds()
    while time.monotonic() < end:
        time.sleep(0.5)
        now = server.cpu_seconds()
        if now - before < 0.05:
            return
        before = now


def closed_loops(servers: Sequence[LLMServer | BareEngine], *, count: int, answers: int) -> Rounds:
    """Let servers take turns, so that a busy machine slows all; the order turns round each time.

    A single connection asks for one answer more than the others.
    """
    rounds: Rounds = {}
    for server in servers:
        load(server, connections=max(CONNECTIONS), tokens=4)
    for number in range(count):
        for c in CONNECTIONS:
            for server in servers[:: -1 if number % 2 else 1]:
                run = load(server, connections=c, answers=answers + (c == 1))
                rounds.setdefault((server.name, c), {})[number] = run
                note(server, f"c={c}", run)
    return rounds


def open_loops(servers: Sequence[LLMServer | BareEngine]) -> dict[str, LLMRun]:
    """Let requests come whether or not a server keeps up; the same ones for all servers."""
    runs = {}
    for server in servers:
        if isinstance(server, BareEngine):
            continue
        run = load(server, rate=RATE, limit_seconds=SECONDS + DRAIN_SECONDS)
        runs[server.name] = run
        note(server, f"{RATE:g}/s", run)
    return runs


def note(server: LLMServer | BareEngine, load_: str, run: LLMRun) -> None:
    print(
        f"  {server.name:<22} {load_:<6} {run.tokens_per_second:7.1f} tokens/s, first text "
        f"{run.first_p50:.3f} s, {run.unfinished} of {run.answers} cut",
        file=sys.stderr,
    )
