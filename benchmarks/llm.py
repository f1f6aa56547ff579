"""The language model over HTTP, streamed: rounds of closed loops in turns, then an open loop."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.llm_servers import (
    LLMServer,
    bare_generate,
    llama_cpp,
    our_llm,
    transformers_serve,
)
from benchmarks.servers import ROOT
from ml.models.embedded_llm import install

__all__ = [
    "CONNECTIONS",
    "RATE",
    "LLMRun",
    "Rounds",
    "closed_loops",
    "llm_servers",
    "open_loops",
]

CONNECTIONS = (1, 4, 8, 16)
#: Those that a target speaks of; the others are measured in the first round only.
AIMED_AT = (1, 8, 16)
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


def llm_servers() -> list[LLMServer]:
    folder = install()
    return [
        our_llm("ours", folder, engine="transformers"),
        our_llm("ours, int8", folder, engine="openvino"),
        bare_generate(folder),
        transformers_serve(folder, continuous_batching=False),
        transformers_serve(folder, continuous_batching=True),
        llama_cpp(),
    ]


def load(
    server: LLMServer,
    *,
    connections: int = 1,
    answers: int = 1,
    tokens: int = 64,
    rate: float | None = None,
    limit_seconds: float = LIMIT_SECONDS,
) -> LLMRun:
    """Run the load generator against a server; a closed loop without a rate."""
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


def closed_loops(servers: Sequence[LLMServer], *, count: int, answers: int) -> Rounds:
    """Let servers take turns, so that a busy machine slows all; the order turns round each time.

    Servers with `once` have more than one connection in the first round only. A single connection
    asks for one answer more than the others.
    """
    rounds: Rounds = {}
    for server in servers:
        load(server, connections=max(CONNECTIONS), tokens=4)
    for number in range(count):
        for c in CONNECTIONS:
            for server in servers[:: -1 if number % 2 else 1]:
                if number > 0 and c > 1 and (server.once or c not in AIMED_AT):
                    continue
                run = load(server, connections=c, answers=answers + (c == 1))
                rounds.setdefault((server.name, c), {})[number] = run
                note(server, f"c={c}", run)
    return rounds


def open_loops(servers: Sequence[LLMServer]) -> dict[str, LLMRun]:
    """Let requests come whether or not a server keeps up; the same ones for all servers."""
    runs = {}
    for server in servers:
        run = load(server, rate=RATE, limit_seconds=SECONDS + DRAIN_SECONDS)
        runs[server.name] = run
        note(server, f"{RATE:g}/s", run)
    return runs


def note(server: LLMServer, load_: str, run: LLMRun) -> None:
    print(
        f"  {server.name:<22} {load_:<6} {run.tokens_per_second:7.1f} tokens/s, first text "
        f"{run.first_p50:.3f} s, {run.unfinished} of {run.answers} cut",
        file=sys.stderr,
    )
