"""Tables of the language model's runs, as Markdown, and whether the targets were reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.llm import CONNECTIONS, RATE, LLMRun, Rounds

__all__ = ["report"]

OURS, INT8, BARE = "ours", "ours, int8", "bare generate"
SERVE, SERVE_CB = "transformers serve", "transformers serve CB"


def report(rounds: Rounds, open_runs: dict[str, LLMRun]) -> None:
    servers = list(dict.fromkeys(name for name, _ in rounds))
    print("\n### SmolLM2-135M-Instruct, bf16, 64 tokens, streamed")
    absolute("tokens per second", servers, rounds, lambda run: run.tokens_per_second, 0)
    absolute("time to first text, p50, s", servers, rounds, lambda run: run.first_p50, 2)
    absolute("latency, p99, s", servers, rounds, lambda run: run.latency_p99, 1)
    absolute("server CPU per token, ms", servers, rounds, lambda run: run.cpu_ms, 1)
    ratios(rounds, servers)
    lengths(rounds)
    open_loop(open_runs)
    targets(rounds, open_runs)


def absolute(
    title: str,
    servers: Sequence[str],
    rounds: Rounds,
    value: Callable[[LLMRun], float],
    places: int,
) -> None:
    heading(title, *(f"c={c}" for c in CONNECTIONS))
    for name in servers:
        cells = [
            spread([value(run) for run in rounds[name, c].values()], places) for c in CONNECTIONS
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def ratios(rounds: Rounds, servers: Sequence[str]) -> None:
    heading("tokens per second, ours / peer", *(f"c={c}" for c in CONNECTIONS))
    for own in (OURS, INT8):
        for peer in [name for name in servers if name not in (OURS, INT8)]:
            cells = [spread(over(rounds[own, c], speeds(rounds[peer, c])), 2) for c in CONNECTIONS]
            print(f"| {own} / {peer} | {' | '.join(cells)} |")


def lengths(rounds: Rounds) -> None:
    """Say how many of the tokens that were asked for came, where answers were whole."""
    shares: dict[str, list[float]] = {}
    for (name, _), runs in rounds.items():
        shares.setdefault(name, []).extend(r.length for r in runs.values() if r.length > 0)
    text = ", ".join(f"{name} {64 * statistics.mean(each):.1f}" for name, each in shares.items())
    print(f"\nTokens of a whole answer: {text}.")


def open_loop(runs: dict[str, LLMRun]) -> None:
    columns = ("first text p50", "p99", "latency p50", "p99", "tokens per second", "cut")
    heading(f"open loop, {RATE:g} requests/s, 16–128 tokens", *columns)
    for name, run in runs.items():
        times = (run.first_p50, run.first_p99, run.latency_p50, run.latency_p99)
        cells = [f"{number(value, 3)} s" if math.isfinite(value) else "cut" for value in times]
        cells += [f"{run.tokens_per_second:.0f}", f"{run.unfinished} of {run.answers}"]
        print(f"| {name} | {' | '.join(cells)} |")


@dataclass(frozen=True)
class Aim:
    """A target: what is measured in each round, and the limit that it must keep."""

    title: str
    values: list[float]
    limit: float
    at_least: bool = True

    def row(self) -> str:
        reached = statistics.median(self.values)
        good = reached >= self.limit if self.at_least else reached < self.limit
        verdict = "reached" if good else "missed"
        # A limit inside of the spread is not decided by these rounds.
        if min(self.values) < self.limit < max(self.values):
            verdict += " within the spread"
        return f"| {self.title} | {spread(self.values, 2)} | {verdict} |"


def targets(rounds: Rounds, open_runs: dict[str, LLMRun]) -> None:
    better = {c: better_serve(rounds, c) for c in (8, 16)}
    first = {c: rounds[OURS, c] for c in (1, 8)}
    bare = speeds(rounds[BARE, 1])
    aims = [
        Aim("c=1 ≥ 0.95 x bare generate", over(rounds[OURS, 1], bare), 0.95),
        Aim("c=8 ≥ 1.25 x the better transformers serve", over(rounds[OURS, 8], better[8]), 1.25),
        Aim("c=16 ≥ 1.4 x the better transformers serve", over(rounds[OURS, 16], better[16]), 1.4),
        Aim(
            "time to first text at c=8 < 3 x that at c=1",
            [first[8][n].first_p50 / first[1][n].first_p50 for n in first[1]],
            3,
            at_least=False,
        ),
        Aim(
            f"time to first text at {RATE:g}/s, p99 < 0.2 s",
            [open_runs[OURS].first_p99],
            0.2,
            at_least=False,
        ),
        Aim("int8, c=1 ≥ 1.7 x bare generate", over(rounds[INT8, 1], bare), 1.7),
        Aim(
            "int8, c=8 ≥ 1.4 x the better transformers serve", over(rounds[INT8, 8], better[8]), 1.4
        ),
    ]
    print("\n| target | reached | |\n|---|---|---|")
    for aim in aims:
        print(aim.row())


def speeds(runs: dict[int, LLMRun]) -> dict[int, float]:
    return {n: run.tokens_per_second for n, run in runs.items()}


def better_serve(rounds: Rounds, c: int) -> dict[int, float]:
    """Return, for each round, the better of `transformers serve` with batching and without."""
    without = speeds(rounds[SERVE, c])
    return {n: max(speed, without.get(n, 0)) for n, speed in speeds(rounds[SERVE_CB, c]).items()}


def over(runs: dict[int, LLMRun], others: dict[int, float]) -> list[float]:
    """Return the ratios of throughput within the rounds that both ran in."""
    own = speeds(runs)
    return [own[n] / others[n] for n in own.keys() & others.keys()]


def heading(title: str, *columns: str) -> None:
    print(f"\n| {' | '.join((title, *columns))} |\n|{'---|' * (len(columns) + 1)}")


def spread(values: list[float], places: int) -> str:
    """Return the median and, in brackets, the least and the most."""
    middle = number(statistics.median(values), places)
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values), places)}–{number(max(values), places)})"


def number(value: float, places: int) -> str:
    return f"{value:.{places}f}" if math.isfinite(value) else "cut"
