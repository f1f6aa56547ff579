"""The load generator for streamed text, in a process of its own.

    python -m benchmarks.llm_load --port 4999 --protocol infernet --connections 8 --answers 2
    python -m benchmarks.llm_load --port 4999 --protocol infernet --rate 2 --seconds 12

Without a rate the loop is closed: each connection asks again once it is answered, so many times.
With one, requests come at random moments (a Poisson process, the same with the same seed) and ask
for 16 to 128 tokens; their times count from the moment they were due. Answers are cut after
`--limit` seconds. Prints one JSON object, times in seconds.

While it runs, bytes are only noted with their times. They are understood afterwards, and their
tokens are counted with the model's tokenizer, for all servers alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import h11
import uvloop
from tokenizers import Tokenizer

from ml.models.embedded_llm import embedded_llm_path

__all__ = ["Protocol", "Target", "answer_now"]

PROMPTS = Path(__file__).with_name("prompts.txt").read_text().splitlines()
OPEN_LOOP_TOKENS = (16, 128)
READ_BYTES = 65536


class Protocol(StrEnum):
    """How a server is asked, and how its stream is read."""

    #: A message of the node; the answer is the text itself.
    INFERNET = "infernet"
    #: A chat completion; the answer is events with pieces of text in them.
    OPENAI = "openai"
    #: The same; no prompt is reused, and the end token does not end the answer.
    LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True)
class Target:
    """A server, and how it is asked."""

    port: int
    protocol: Protocol
    model: str = ""
    key: str = ""

    def request(self, text: str, tokens: int) -> tuple[h11.Request, bytes]:
        if self.protocol is Protocol.INFERNET:
            path = "/service_output"
            data = {"text": text, "max_new_tokens": tokens}
            message: dict[str, Any] = {"source": 1, "destination": 2, "data": data}
        else:
            path = "/v1/chat/completions"
            messages = [{"role": "user", "content": text}]
            message = {"model": self.model, "messages": messages, "max_tokens": tokens}
            message |= {"temperature": 0, "stream": True}
            if self.protocol is Protocol.LLAMA_CPP:
                message |= {"cache_prompt": False, "ignore_eos": True}
        body = json.dumps(message).encode()
        headers = [
            ("Host", f"127.0.0.1:{self.port}"),
            ("Connection", "close"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *([("Authorization", f"Bearer {self.key}")] if self.key else []),
        ]
        return h11.Request(method="POST", target=path, headers=headers), body


@dataclass
class Answer:
    """One request and the bytes that came back, with their times."""

    target: Target
    text: str
    tokens: int
    due: float
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = math.inf
    _parser: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    async def fetch(self) -> None:
        request, body = self.target.request(self.text, self.tokens)
        data = [self._parser.send(part) for part in (request, h11.Data(body), h11.EndOfMessage())]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target.port)
        try:
            writer.write(b"".join(part or b"" for part in data))
            while piece := await reader.read(READ_BYTES):
                self.pieces.append((time.perf_counter(), piece))
            self.ended = time.perf_counter()
        finally:
            writer.close()

    def texts(self) -> Iterator[tuple[float, str]]:
        """Yield the pieces of text with the moments they came."""
        events = self.target.protocol is not Protocol.INFERNET
        rest = b""
        for moment, piece in self.pieces:
            self._parser.receive_data(piece)
            rest += b"".join(self._bodies())
            if not events:
                # Cut only at the end of a character.
                text = rest.decode(errors="ignore")
                rest = rest[len(text.encode()) :]
            else:
                *whole, rest = rest.split(b"\n\n")
                text = "".join(map(_content, whole))
            if text:
                yield moment, text

    def _bodies(self) -> Iterator[bytes]:
        while (event := self._parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response) and event.status_code != 200:
                raise ConnectionError(f"status {event.status_code}: {self.pieces[-1][1][-500:]!r}")
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                return


def _content(event: bytes) -> str:
    data = event.removeprefix(b"data: ")
    if data == b"[DONE]":
        return ""
    choices = json.loads(data)["choices"]  # a KeyError is an error that the server reports
    return choices[0]["delta"].get("content") or "" if choices else ""


def answer_now(target: Target, *, timeout_seconds: float) -> str:
    """Return the text of one short answer; raises OSError while there is no server."""
    answer = Answer(target, PROMPTS[0], 2, time.perf_counter())
    asyncio.run(asyncio.wait_for(answer.fetch(), timeout_seconds))
    text = "".join(text for _, text in answer.texts())
    assert text, f"no text in {answer.pieces}"
    return text


async def closed_loop(target: Target, options: argparse.Namespace) -> list[Answer]:
    answers: list[Answer] = []

    async def client(number: int) -> None:
        for turn in range(options.answers):
            text = PROMPTS[(number + turn * options.connections) % len(PROMPTS)]
            answers.append(Answer(target, text, options.tokens, time.perf_counter()))
            await answers[-1].fetch()

    await _bounded([client(number) for number in range(options.connections)], options.limit)
    return answers


async def open_loop(target: Target, options: argparse.Namespace) -> list[Answer]:
    chance = random.Random(options.seed)
    # A Poisson process whose number of arrivals is given: each comes at any moment alike.
    moments = [
        chance.uniform(0, options.seconds) for _ in range(round(options.rate * options.seconds))
    ]
    started = time.perf_counter()
    answers = [
        Answer(target, chance.choice(PROMPTS), chance.randint(*OPEN_LOOP_TOKENS), started + moment)
        for moment in sorted(moments)
    ]

    async def client(answer: Answer) -> None:
        await asyncio.sleep(answer.due - time.perf_counter())
        await answer.fetch()

    await _bounded([client(answer) for answer in answers], options.limit)
    return answers


async def _bounded(clients: list[Any], limit: float) -> None:
    tasks = [asyncio.ensure_future(client) for client in clients]
    done, late = await asyncio.wait(tasks, timeout=limit)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
    for task in done:
        task.result()


def summary(answers: list[Answer], started: float, ended: float) -> dict[str, Any]:
    tokenizer = Tokenizer.from_file(str(embedded_llm_path() / "tokenizer.json"))
    first: list[float] = []
    counts: list[int] = []
    for answer in answers:
        texts = list(answer.texts())
        first.append(texts[0][0] - answer.due if texts else math.inf)
        text = "".join(text for _, text in texts)
        counts.append(len(tokenizer.encode(text, add_special_tokens=False).ids))
    whole = [
        count / answer.tokens
        for count, answer in zip(counts, answers, strict=True)
        if math.isfinite(answer.ended)
    ]
    latencies = [answer.ended - answer.due for answer in answers]
    return {
        "tokens": sum(counts),
        "tokens_per_second": sum(counts) / (ended - started),
        # 1 if every whole answer had as many tokens as it was asked for
        "length": sum(whole) / len(whole) if whole else math.nan,
        "answers": len(answers),
        "unfinished": len(answers) - len(whole),
        "first_p50": percentile(first, 0.50),
        "first_p99": percentile(first, 0.99),
        "latency_p50": percentile(latencies, 0.50),
        "latency_p99": percentile(latencies, 0.99),
    }


def percentile(values: list[float], share: float) -> float:
    """Return the least value that so large a share of all does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    target = Target(options.port, Protocol(options.protocol), options.model, options.key)
    cpu = time.process_time()
    started = time.perf_counter()
    answers = await (open_loop if options.rate else closed_loop)(target, options)
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    return {**summary(answers, started, ended), "generator_cpu_seconds": round(cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.llm_load")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=[str(p) for p in Protocol], required=True)
    parser.add_argument("--model", default="", help="the model's name in chat completions")
    parser.add_argument("--key", default="", help="bearer key")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--answers", type=int, default=1, help="to each connection")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--rate", type=float, help="requests a second, in an open loop")
    parser.add_argument("--seconds", type=float, default=12, help="of an open loop's arrivals")
    parser.add_argument("--seed", type=int, default=0, help="of an open loop's arrivals")
    parser.add_argument("--limit", type=float, default=60, help="seconds until answers are cut")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(options))))


if __name__ == "__main__":
    main()
