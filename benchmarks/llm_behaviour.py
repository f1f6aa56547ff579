"""What a service of a language model does beside tokens: starts, forms, cancels, neighbours."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.asking import ask, opened
from benchmarks.llm import CONNECTIONS, LLMRun, load
from benchmarks.llm_servers import SLOTS, LLMServer

__all__ = ["Behaviour", "behaviour", "freed_seconds", "with_neighbours"]

TOKENS, TURNS = 64, 5
NEIGHBOURS = 2
#: No answer of so few tokens has all of it.
SCHEMA = {"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 100}
QUESTION = {"messages": [{"role": "user", "content": "List all the animals that you know."}]}


#: An answer that repeats its prompt, as a summary or an edit of code does.
POEM = """The lighthouse keeper climbs the narrow stairs and lights the lamp above the silent bay,
the fishing boats come home in twos and threes, the harbour bell is ringing far away."""
REPEAT = {"prompt": f"{POEM}\n\n{POEM}\n\n{POEM[:60]}"}


@dataclass(frozen=True)
class Behaviour:
    """Seconds, and ratios of them."""

    #: from its start to the first answer
    start: float
    #: the time of an answer in JSON to that of as many tokens of free text
    json_ratio: float
    #: to the first text where nothing runs, and where all places were just given up
    alone: float
    freed: float
    #: tokens per second of an answer that repeats its prompt
    repeating: float


def behaviour(server: LLMServer, *, turns: int = TURNS) -> Behaviour:
    """Start a server that nothing runs beside, and look at it; it is ended."""
    began = time.perf_counter()
    server.start()
    try:
        server.wait_until_it_answers()
        start = time.perf_counter() - began
        free = _seconds(server.port, turns, **QUESTION, ignore_eos=True)
        form = {"type": "json_schema", "json_schema": {"name": "animals", "schema": SCHEMA}}
        constrained = _seconds(server.port, turns, **QUESTION, response_format=form)
        repeated = _seconds(server.port, turns, path="/v1/completions", **REPEAT, ignore_eos=True)
        alone, freed = freed_seconds(server.port, SLOTS)
    finally:
        server.stop()
    return Behaviour(start, constrained / free, alone, freed, TOKENS / repeated)


def _seconds(port: int, turns: int, *, path: str = "/v1/chat/completions", **more: Any) -> float:
    """Return the median time of an answer of `TOKENS` tokens; the first is not counted."""
    body = {"max_tokens": TOKENS, "temperature": 0, **more}
    times = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        usage = ask(port, path, body)["usage"]
        times.append(time.perf_counter() - began)
        assert usage["completion_tokens"] == TOKENS, usage
    return statistics.median(times[1:])


def freed_seconds(port: int, slots: int) -> tuple[float, float]:
    """Return the time to first text alone, and after all places were taken and given up."""
    _first_text(port)
    alone = _first_text(port)
    streams = [opened(port, "/v1/completions", _long(number)) for number in range(slots)]
    for stream in streams:
        stream.readline()
    for stream in streams:
        stream.close()
    return alone, _first_text(port)


def _long(number: int) -> dict[str, Any]:
    prompt = f"A very long list of words, number {number}:"
    return {"prompt": prompt, "max_tokens": 900, "temperature": 0, "stream": True}


def _first_text(port: int) -> float:
    began = time.perf_counter()
    with opened(port, "/v1/completions", _long(-1) | {"max_tokens": 2}) as reply:
        reply.readline()
        return time.perf_counter() - began


def with_neighbours(server: LLMServer) -> dict[int, LLMRun]:
    """Return what a running server does beside processes that keep the processors busy."""
    with _busy(NEIGHBOURS):
        return {c: load(server, connections=c) for c in CONNECTIONS}


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
