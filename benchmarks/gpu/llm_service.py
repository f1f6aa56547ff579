"""The language-model service over HTTP, started by `serve`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.asking import ask, events, opened
from benchmarks.gpu.finding import Finding, Scale
from benchmarks.llm import load
from benchmarks.llm_behaviour import freed_seconds
from benchmarks.llm_servers import our_llm
from benchmarks.servers import started

__all__ = ["llm_service"]

SLOTS = 32
QUESTION = [{"role": "user", "content": "Which planet is the largest one?"}]


def llm_service(scale: Scale) -> Iterator[Finding]:
    """Yield that it answers, streams and frees the places of clients that go, and its rates."""
    server = our_llm(
        "ours",
        engine="transformers",
        device=scale.device,
        dtype="bfloat16",
        slots=_slots(scale),
    )
    began = time.perf_counter()
    with started(server):
        server.wait_until_it_answers()
        yield Finding("start to first answer", f"{time.perf_counter() - began:.1f} s")
        yield from _answers(server.port, scale)
        yield _freed(server.port, scale)
        for c in scale.connections:
            run = load(server, connections=c, answers=2, tokens=4 if scale.quick else 64)
            yield Finding(
                f"bfloat16, c={c}",
                f"{run.tokens_per_second:.0f} tokens/s, first text {1e3 * run.first_p50:.0f} ms",
                None if scale.quick else run.unfinished == 0,
            )


def _slots(scale: Scale) -> int:
    return 4 if scale.quick else SLOTS


def _chat(tokens: int, **more: Any) -> dict[str, Any]:
    return {"messages": QUESTION, "max_tokens": tokens, "temperature": 0, **more}


def _answers(port: int, scale: Scale) -> Iterator[Finding]:
    tokens = 4 if scale.quick else 32
    data = {"text": QUESTION[0]["content"], "max_new_tokens": tokens}
    text = ask(port, "/service_output", {"source": 1, "destination": 1, "data": data})
    yield Finding("/service_output answers", "yes" if text else "no", bool(text))
    whole = ask(port, "/v1/chat/completions", _chat(tokens))["choices"][0]["message"]["content"]
    with opened(port, "/v1/chat/completions", _chat(tokens, stream=True)) as reply:
        pieces = [
            choice["delta"].get("content") or ""
            for event in events(reply)
            for choice in event["choices"]
        ]
    same = "".join(pieces) == whole
    yield Finding("a stream's text is the answer's", f"{len(pieces)} pieces", same)


def _freed(port: int, scale: Scale) -> Finding:
    slots = _slots(scale)
    alone, freed = freed_seconds(port, slots)
    return Finding(
        f"first text after {slots} streams were cancelled, all places taken",
        f"{1e3 * freed:.0f} ms; alone {1e3 * alone:.0f} ms",
        None if scale.quick else freed < alone + 1,  # a dry run is no matter of time
    )
