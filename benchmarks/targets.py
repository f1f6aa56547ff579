"""What is wanted of the figures: each target names the one figure that decides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.figures import Figure
from benchmarks.results import Record

__all__ = ["TARGETS", "Target"]


_STORM = "retry storm: 200 clients, upstream 503 for 5 s of 10 s"


@dataclass(frozen=True)
class Target:
    """A bound, and where the figure stands that has to keep it.

    Attributes:
        words: what is measured.
        point: at which connections, or of what; empty where there is one alone.
        sign, bound: how the median has to be.
        section, table, row, column: where it stands in the results.
    """

    words: str
    point: str
    sign: Literal["≥", "≤", "<", ">"]
    bound: float
    section: str
    table: str
    row: str
    column: str

    def figure(self, sections: Mapping[str, Record]) -> Figure:
        """Return what is reached; raises `LookupError` where nothing was measured."""
        cell = sections[self.section].named(self.table).cell(self.row, self.column)
        if isinstance(cell, str):
            raise LookupError(f"{self.row}: {cell!r} is no figure")
        return cell

    def verdict(self, figure: Figure) -> str:
        """Return whether a figure keeps the bound; a bound inside of its spread is undecided."""
        verdict = "reached" if self._keeps(figure.median) else "**missed**"
        if self._keeps(figure.least) != self._keeps(figure.most):
            verdict += ", within the spread"
        return verdict

    def _keeps(self, value: float) -> bool:
        return {
            "≥": value >= self.bound,
            ">": value > self.bound,
            "≤": value <= self.bound,
            "<": value < self.bound,
        }[self.sign]


def _small() -> list[Target]:
    section, table, column = "small", "ours / peer", "requests per second"
    targets = [
        Target(f"small request, {server}: x bare Quart on hypercorn", f"c={c}", "≥", bound, *place)
        for own, server in (
            ("ours", "granian"),
            ("ours, hypercorn", "hypercorn"),
            ("ours, log lines", "granian, with log lines"),
            ("ours, one processor", "granian on one processor"),
        )
        for c, bound in ((1, 1.0), (32, 1.6), (128, 1.6))
        for place in [(section, table, f"{own} / bare Quart, c={c}", column)]
    ]
    targets += [
        Target(f"small request, granian: x {peer}", "c=32", "≥", bound, section, table, row, column)
        for peer, bound in (("LitServe", 5.0), ("BentoML", 8.0))
        for row in [f"ours / {peer}, c=32"]
    ]
    return targets


def _heavy() -> list[Target]:
    place = "heavy", "batches / other"
    column = "requests per second"
    return [
        *(
            Target("batches: x one by one", f"c={c}", "≥", bound, *place, row, column)
            for c, bound in ((1, 1.0), (32, 3.5), (64, 3.5))
            for row in [f"batches / one by one, c={c}"]
        ),
        *(
            Target(
                f"{form}: x the library in a bare Quart handler",
                f"c={c}",
                *("≥", 0.8, "formats", "ours / bare Quart", f"{form}, c={c}", column),
            )
            for form in ("ONNX", "XGBoost")
            for c in (1, 32)
        ),
    ]


def _overload() -> list[Target]:
    table = "service, and times its best rate"
    return [
        Target(
            f"overload, {model} model: {words}",
            f"{server}",
            *(sign, bound, "overload", table, f"{model}, {server}, 10 x", column),
        )
        for server in ("granian", "hypercorn")
        for model in ("heavy", "small")
        for words, sign, bound, column in (
            ("200s at 10 x capacity, of a closed loop", "≥", 0.9, "of the closed loop"),
            ("/health/ready meanwhile, p99", "<", 100.0, "p99"),
        )
    ] + [
        Target(
            "overload, heavy model: p50 of 200s at 2 x capacity",
            f"{server}",
            *("<", 300.0, "overload", table, f"heavy, {server}, 2 x", "p50 of 200"),
        )
        for server in ("granian", "hypercorn")
    ]


def _codecs() -> list[Target]:
    return [
        Target(
            f"tensors as ABI, {size} values: x infernet-ml",
            f"{arithmetic} {way}",
            "≥",
            bound,
            "codecs",
            "ABI tensors",
            what,
            "ratio",
        )
        for size, bound in ((69, 10.0), (100000, 20.0))
        for arithmetic in ("ieee", "fixed_point")
        for way in ("encode", "decode")
        for what in [f"{arithmetic}, {size} values: {way}"]
    ] + [
        Target(
            "a million float32 as bytes: x JSON",
            f"{form}",
            *("≥", 8.0, "tensor_bodies", "form", form, "x JSON"),
        )
        for form in (".npy", "safetensors", "Arrow")
    ]


def _memory() -> list[Target]:
    return [
        Target(
            "memory of two workers, model of 537 MB: x one worker",
            f"{row}",
            *("≤", 1.15, "memory", "model", row, "two / one"),
        )
        for row in ("torch, safetensors", "torch, mmap", "ONNX, mmap")
    ]


def _tgi() -> list[Target]:
    return [
        Target(
            f"TGI client: added p50, c={c}",
            f"upstream {delay} ms",
            *("<", bound, "tgi", "upstream", f"{delay} ms, c={c}", "added p50"),
        )
        for c, bound in ((1, 3.0), (32, 5.0), (256, 40.0))
        for delay in (20, 200)
    ] + [
        Target(
            "TGI client: failed requests, c=256",
            "",
            *("≤", 0.0, "tgi", "upstream", "20 ms, c=256", "not 200"),
        ),
        Target(
            "TGI client: requests without an answer in a retry storm",
            "",
            *("≤", 0.0, "tgi", _STORM, "through the service", "unanswered"),
        ),
    ]


def _language_model() -> list[Target]:
    section, rates = "llm", "tokens per second, ours / peer"
    rows = [
        ("8 bits", "ours, openvino / openvino-genai, bare", 0.93, ("c=1", "c=8", "c=16")),
        (
            "16 bits",
            "ours, openvino fp16 / openvino-genai fp16, bare",
            0.93,
            ("c=1", "c=8", "c=16"),
        ),
        ("8 bits", "ours, openvino / llama.cpp, Q4_1", 2.5, ("c=8",)),
        ("8 bits", "ours, openvino / transformers serve CB", 3.0, ("c=8",)),
        ("vLLM", "ours, vllm / vllm, bare", 0.9, ("c=1", "c=8", "c=16")),
    ]
    targets = [
        Target(
            f"language model, {words}: x {row.partition(' / ')[2]}",
            f"{c}",
            *("≥", bound, section, rates, row, c),
        )
        for words, row, bound, columns in rows
        for c in columns
    ]
    alone = section, "alone on the machine"
    own = "ours, openvino"
    return [
        *targets,
        Target(
            "language model, 16 bits: of the memory limit, c=1",
            "",
            *("≥", 0.75, section, "tokens per second", "ours, openvino fp16"),
            "of the memory limit at c=1",
        ),
        *(
            Target(
                "language model: JSON / free text",
                f"{name}",
                *("≤", 1.25, *alone, f"ours, {name}", "JSON / free text"),
            )
            for name in ("openvino", "vllm")
        ),
        *(
            Target(
                "language model: first text at 2/s, p99",
                f"{name}",
                *("<", 0.2, section, "open loop, 2 requests/s, 16–128 tokens", f"ours, {name}"),
                "first text p99",
            )
            for name in ("openvino", "vllm")
        ),
        *(
            Target(
                f"language model, {name}: beside two busy processes, x idle",
                f"c={c}",
                *("≥", 0.3, section, "tokens per second beside 2 busy processes", f"ours, {name}"),
                f"c={c}, of idle",
            )
            for name in ("openvino", "vllm")
            for c in (1, 8, 16)
        ),
        *(
            Target(
                "language model: first text at c=8, x that at c=1",
                f"{name}",
                *("<", 3.0, section, "first text", f"ours, {name}", "c=8 / c=1"),
            )
            for name in ("openvino", "vllm")
        ),
        Target(
            "language model: an answer that repeats its prompt, of the memory limit",
            "",
            *(">", 1.0, section, "an answer that repeats its prompt"),
            *("ours, openvino, prompt lookup", "of the memory limit"),
        ),
        Target(
            "language model: start to first answer",
            "",
            *("<", 6.0, *alone, own, "start to first answer"),
        ),
    ]


def _others() -> list[Target]:
    table = "server and attack"
    flood = "1000 connections, 10 x capacity"
    return [
        *(
            Target(
                "attack, 1000 connections at 10 x capacity: /health/ready at most",
                f"{server}",
                *("<", 200.0, "attack", table, f"{server}: {flood}", "max"),
            )
            for server in ("granian", "hypercorn")
        ),
        Target(
            "a training step: a job / bare TRL",
            "",
            *("≤", 1.03, "trainer", "a step of training", "24 steps", "a job / bare TRL"),
        ),
        *(
            Target(
                "proofs: CPU, service / bare ezkl",
                f"{circuit}",
                *("≤", 1.1, "proofs", "circuit", circuit, "CPU, service / bare"),
            )
            for circuit in ("iris", "mlp-69-16-2", "mlp-69-128-2", "mlp-256-128-10")
        ),
        Target(
            "a million rows: web worker's memory",
            "",
            *("<", 200.0, "big_data", "rows", "1 000 000", "web worker, peak"),
        ),
        Target(
            "a million rows: /health/live, worst",
            "",
            *("<", 100.0, "big_data", "rows", "1 000 000", "worst"),
        ),
    ]


TARGETS = (
    *_small(),
    *_heavy(),
    *_overload(),
    *_codecs(),
    *_memory(),
    *_tgi(),
    *_language_model(),
    *_others(),
)
