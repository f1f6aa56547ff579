"""Tables of the language model's runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.llm import (
    BARE_OPENVINO,
    BARE_OPENVINO_16,
    CONNECTIONS,
    LLAMA_CPP,
    OPENVINO,
    OPENVINO_16,
    OPENVINO_LOOKUP,
    RATE,
    TRANSFORMERS,
    VLLM,
    LLMRun,
    Rounds,
)
from benchmarks.llm_behaviour import NEIGHBOURS, Behaviour
from benchmarks.results import Record
from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path
from ml.models.openvino_model import Weights, openvino_source

__all__ = ["Measured", "report"]

OURS = (OPENVINO, OPENVINO_16, VLLM, TRANSFORMERS)
#: By the weights that they read, those on OpenVINO.
WEIGHTS: dict[Weights, tuple[str, str]] = {
    "int8": (OPENVINO, BARE_OPENVINO),
    "fp16": (OPENVINO_16, BARE_OPENVINO_16),
}


@dataclass(frozen=True)
class Measured:
    """All that was measured; `busy` is beside neighbours, `bandwidth` in bytes a second."""

    rounds: Rounds
    open_runs: dict[str, LLMRun]
    busy: dict[str, dict[int, LLMRun]]
    behaviours: dict[str, Behaviour]
    bandwidth: float

    @property
    def servers(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.rounds))

    def values(self, name: str, c: int, value: Callable[[LLMRun], float]) -> list[float]:
        return [value(run) for run in self.rounds[name, c].values()]

    def over(self, name: str, peer: str, c: int) -> list[float]:
        """Return the ratios of throughput within the rounds."""
        own, other = self.rounds[name, c], self.rounds[peer, c]
        return [
            own[n].tokens_per_second / other[n].tokens_per_second for n in own.keys() & other.keys()
        ]

    def of_memory(self, name: str) -> list[float]:
        """Return which part of the reads that memory allows a single answer makes."""
        most = self.bandwidth / weights_bytes(name)
        return [speed / most for speed in self.values(name, 1, speed_of)]


def speed_of(run: LLMRun) -> float:
    return run.tokens_per_second


def weights_bytes(name: str) -> int:
    """Return how many bytes of weights a server reads for each token."""
    folder = embedded_llm_path()
    for weights, names in WEIGHTS.items():
        if name in names and (source := openvino_source(EMBEDDED_LLM, weights)) is not None:
            return (source / "openvino_model.bin" if source.is_dir() else source).stat().st_size
    if name == LLAMA_CPP:
        return 98_000_000
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def report(record: Record, measured: Measured) -> None:
    """Add all tables."""
    speeds(record, measured)
    absolute(record, "time to first text, p50, s", measured, lambda run: run.first_p50, 2)
    absolute(record, "latency, p99, s", measured, lambda run: run.latency_p99, 1)
    absolute(record, "CPU per token, ms", measured, lambda run: run.cpu_ms, 1)
    ratios(record, measured)
    lengths(record, measured.rounds)
    open_loop(record, measured.open_runs)
    neighbours(record, measured)
    behaviours(record, measured.behaviours)
    first_texts(record, measured)
    repeating(record, measured)


def speeds(record: Record, measured: Measured) -> None:
    columns = ("weights", *map("c={}".format, CONNECTIONS), "of the memory limit at c=1")
    table = record.table("tokens per second", *columns)
    for name in measured.servers:
        cells = [Figure.of(weights_bytes(name) / 1e6, places=0, unit="MB")]
        cells += [Figure.of(*measured.values(name, c, speed_of), places=0) for c in CONNECTIONS]
        table.row(name, *cells, Figure.of(*measured.of_memory(name)))
    bandwidth = Figure.of(measured.bandwidth / 1e9, places=1, unit="GB/s")
    record.table("memory", "is read at").row("all processors", bandwidth)


def absolute(
    record: Record, title: str, measured: Measured, value: Callable[[LLMRun], float], places: int
) -> None:
    table = record.table(title, *map("c={}".format, CONNECTIONS))
    for name in measured.servers:
        values = [measured.values(name, c, value) for c in CONNECTIONS]
        table.row(name, *(Figure.of(*each, places=places) for each in values))


def ratios(record: Record, measured: Measured) -> None:
    table = record.table("tokens per second, ours / peer", *map("c={}".format, CONNECTIONS))
    for own in (name for name in OURS if name in measured.servers):
        for peer in (name for name in measured.servers if name not in OURS):
            cells = (Figure.of(*measured.over(own, peer, c)) for c in CONNECTIONS)
            table.row(f"{own} / {peer}", *cells)


def lengths(record: Record, rounds: Rounds) -> None:
    """Say how many of the tokens that were asked for came, where answers were whole."""
    shares: dict[str, list[float]] = {}
    for (name, _), runs in rounds.items():
        shares.setdefault(name, []).extend(r.length for r in runs.values() if r.length > 0)
    table = record.table("tokens of a whole answer", "mean")
    for name, each in shares.items():
        if each:
            table.row(name, Figure.of(64 * statistics.mean(each), places=1))


def open_loop(record: Record, runs: dict[str, LLMRun]) -> None:
    times = ("first text p50", "first text p99", "latency p50", "latency p99")
    title = f"open loop, {RATE:g} requests/s, 16–128 tokens"
    table = record.table(title, *times, "tokens per second", "cut")
    for name, run in runs.items():
        table.row(
            name,
            *(
                Figure.of(seconds, places=3, unit="s")
                for seconds in (run.first_p50, run.first_p99, run.latency_p50, run.latency_p99)
            ),
            Figure.of(run.tokens_per_second, places=0),
            f"{run.unfinished} of {run.answers}",
        )


def neighbours(record: Record, measured: Measured) -> None:
    title = f"tokens per second beside {NEIGHBOURS} busy processes"
    columns = [f"c={c}{of}" for c in CONNECTIONS for of in ("", ", of idle")]
    table = record.table(title, *columns)
    for name, busy in measured.busy.items():
        cells = []
        for c in CONNECTIONS:
            idle = statistics.median(measured.values(name, c, speed_of))
            cells.append(Figure.of(busy[c].tokens_per_second, places=0))
            cells.append(Figure.of(busy[c].tokens_per_second / idle))
        table.row(name, *cells)


def behaviours(record: Record, found: dict[str, Behaviour]) -> None:
    table = record.table(
        "alone on the machine",
        "start to first answer",
        "JSON / free text",
        "first text",
        "first text after all places were given up",
        "tokens per second of an answer that repeats its prompt",
    )
    for name, one in found.items():
        table.row(
            name,
            Figure.of(one.start, places=1, unit="s"),
            Figure.of(one.json_ratio),
            *(Figure.of(1e3 * wait, places=0, unit="ms") for wait in (one.alone, one.freed)),
            Figure.of(one.repeating, places=0),
        )


def first_texts(record: Record, measured: Measured) -> None:
    table = record.table("first text", "c=8 / c=1")
    for name in (OPENVINO, VLLM):
        if name in measured.servers:
            one, eight = (measured.rounds[name, c] for c in (1, 8))
            table.row(name, Figure.of(*(eight[n].first_p50 / one[n].first_p50 for n in one)))


def repeating(record: Record, measured: Measured) -> None:
    if seen := measured.behaviours.get(OPENVINO_LOOKUP):
        share = seen.repeating * weights_bytes(OPENVINO) / measured.bandwidth
        table = record.table("an answer that repeats its prompt", "of the memory limit")
        table.row(OPENVINO_LOOKUP, Figure.of(share))
