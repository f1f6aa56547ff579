"""Continuous batching by OpenVINO GenAI, which reads GGUF files and OpenVINO's own folders.

The model runs in a process of its own, see `ml.generation.openvino_process`. If that ends by
itself, the requests that it ran fail, those that waited wait on, and another one is started.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError, InternalError, InvalidInput, NotReady, OutOfMemory
from ml.generation.engine import StepStream, require_left_out
from ml.generation.request import (
    Finished,
    FinishReason,
    Observer,
    SamplingParameters,
    Step,
    Token,
)

if TYPE_CHECKING:
    from ml.generation.adapter_leases import Lease

__all__ = ["OpenVINOEngine"]

log = logging.getLogger(__name__)

_NOT_YET = (
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "ignore_eos",
    "top_logprobs",
    "form",
)


@dataclass(eq=False, slots=True)
class _Request:
    prompt: list[int]
    config: dict[str, Any]
    send: Callable[[Step], None]
    arrived: float
    taken: bool = False
    made: int = 0  # tokens generated

    def finish(
        self,
        reason: FinishReason,
        *,
        token: Token | None = None,
        error: Exception | None = None,
    ) -> None:
        self.send(Step(token, Finished(reason, len(self.prompt), self.made, error)))


class OpenVINOEngine:
    """Runs a causal language model of OpenVINO for many requests at once, on the CPU.

    `source` is a GGUF file, or a folder with `openvino_model.xml`. The cache has room for `slots`
    requests of `max_length` tokens, or `cache_gib` GiB. A prompt that begins like another one is
    read from there on, unless `reuse_prefixes` is off; how much of it, the library does not tell,
    so the observer hears of none.

    The logits of a row differ in their last bits with the rows that share its step.

    Raises `ConfigurationError` for what OpenVINO cannot read.
    """

    def __init__(
        self,
        source: Path,
        *,
        end_tokens: Sequence[int],
        slots: int = 16,
        max_length: int = 2048,
        observer: Observer | None = None,
        reuse_prefixes: bool = True,
        cache_gib: int | None = None,
    ) -> None:
        self.max_length = max_length
        self._end_tokens = list(end_tokens)
        self._observer = observer or Observer()
        self._settings = {
            "source": str(source),
            "slots": slots,
            "max_length": max_length,
            "reuse_prefixes": reuse_prefixes,
            "cache_gib": cache_gib,
        }
        self._changed = threading.Condition()
        self._requests: dict[int, _Request] = {}
        self._numbers = itertools.count()
        self._closed = False
        self._process = _Process(self._settings)
        if why := self._process.wait_until_ready():
            self._process.end()
            raise ConfigurationError(f"OpenVINO cannot read {source.name}: {why}")
        self._thread = threading.Thread(target=self._listen, name="generation", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process at once; what runs or waits ends as cancelled."""
        with self._changed:
            self._closed = True
            self._process.kill()
            self._changed.notify()
        self._thread.join()

    async def generate(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        adapter: Lease | None = None,
    ) -> AsyncGenerator[Step, None]:
        """Yield token by token; the last step says how it ended. Closing it frees the slot.

        `prompt` holds at least one and less than `max_length` token ids; there are no adapters.
        Raises `NotReady` once the engine is closed.
        """
        if adapter is not None:
            raise ValueError("this engine has no adapters")
        steps = StepStream()
        config = self._config(parameters, len(prompt))
        request = _Request(list(prompt), config, steps.send, time.monotonic())
        number = next(self._numbers)
        with self._changed:
            if self._closed:
                raise NotReady("The model is being unloaded.")
            self._requests[number] = request
            self._process.say("add", number, request.prompt, config)
            self._changed.notify()
        try:
            async for step in steps:
                yield step
        finally:
            with self._changed:
                if self._requests.pop(number, None) is not None:
                    self._process.say("cancel", number)

    def _config(self, parameters: SamplingParameters, prompt_tokens: int) -> dict[str, Any]:
        """Return the fields of the library's GenerationConfig."""
        room = self.max_length - prompt_tokens
        config: dict[str, Any] = {
            "max_new_tokens": min(parameters.max_new_tokens, room),
            "logprobs": 1,  # of the chosen token alone
            "ignore_eos": not self._end_tokens,
        }
        if self._end_tokens:
            config |= {"stop_token_ids": set(self._end_tokens), "eos_token_id": self._end_tokens[0]}
        if parameters.temperature > 0 and parameters.top_p > 0:
            seed = parameters.seed
            config |= {
                "do_sample": True,
                "temperature": parameters.temperature,
                "top_p": parameters.top_p,
                "rng_seed": random.getrandbits(32) if seed is None else seed,
            }
            if parameters.top_k:
                config["top_k"] = parameters.top_k
        return config

    def require_supported(self, parameters: SamplingParameters) -> None:
        """Raise `InvalidInput` for what this engine cannot do, naming one that can."""
        require_left_out(parameters, _NOT_YET, engine="openvino", other="transformers")

    async def score(
        self, prompt: Sequence[int], *, top_logprobs: int = 0, adapter: Lease | None = None
    ) -> list[Token]:
        """Return the tokens of a prompt behind its first, each with its logprob in its place."""
        raise InvalidInput("engine openvino gives no probabilities of prompts")

    # --- the thread ---------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            try:
                message = self._process.hear()
            except EOFError:
                if not self._start_again():
                    return
            else:
                self._hear(message)

    def _hear(self, message: tuple[Any, ...]) -> None:
        match message:
            case "taken", numbers:
                for request in filter(None, map(self._requests.get, numbers)):
                    request.taken = True
                    self._observer.taken_in(time.monotonic() - request.arrived, 0)
            case "made", made:
                further = sum([self._accept(*one) for one in made])
                if further:
                    self._observer.stepped(further)
            case "failed", number, why:
                self._end(number, FinishReason.ERROR, error=_failure(why))

    def _accept(self, number: int, tokens: list[tuple[int, float]], status: str) -> int:
        """Pass a request's new tokens on; returns whether one of them is not its first."""
        request = self._requests.get(number)
        if request is None:  # its reader left meanwhile
            return 0
        further = 0
        for place, (id_, logprob) in enumerate(tokens, 1):
            if not math.isfinite(logprob):
                self._end(number, FinishReason.ERROR, error=_failure("logits are not finite"))
                self._process.say("cancel", number)
                return further
            request.made += 1
            if request.made == 1:
                self._observer.began(time.monotonic() - request.arrived, len(request.prompt))
            else:
                further = 1
            if place < len(tokens) or status == "RUNNING":
                request.send(Step(Token(id_, logprob)))
        if status == "FINISHED" and tokens:
            id_, logprob = tokens[-1]
            reason = FinishReason.STOP if id_ in self._end_tokens else FinishReason.LENGTH
            self._end(number, reason, token=Token(id_, logprob))
        elif status != "RUNNING":  # IGNORED: the cache is full of it
            self._end(number, FinishReason.ERROR, error=OutOfMemory())
        return further

    def _end(self, number: int, reason: FinishReason, **how: Any) -> None:
        with self._changed:
            request = self._requests.pop(number, None)
        if request is not None:
            request.finish(reason, **how)

    def _start_again(self) -> bool:
        """Start another process in place of one that ended, unless the engine is closed.

        If it could not even open the model, that is tried again when somebody asks.
        """
        how, was_ready = self._process.end(), self._process.was_ready
        if not self._closed:
            error = _failure(how)
            for number, request in list(self._requests.items()):
                if request.taken or not was_ready:
                    self._end(number, FinishReason.ERROR, error=error)
        with self._changed:
            self._changed.wait_for(lambda: was_ready or self._requests or self._closed)
            if not self._closed:
                self._process = _Process(self._settings)
                for number, request in self._requests.items():
                    self._process.say("add", number, request.prompt, request.config)
                return True
        for number in list(self._requests):
            self._end(number, FinishReason.CANCELLED)
        return False


def _failure(why: str) -> InternalError:
    log.error("a generation failed: %s", why)
    return InternalError()


class _Process:
    """The process that runs the model, with a thread that writes to it: its pipe may be full."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.was_ready = False
        self._broken: str | None = None
        self._outbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        ours, theirs = Pipe()
        self._connection: Connection[Any, Any] = ours
        command = [sys.executable, "-P", "-m", "ml.generation.openvino_process"]
        command += [str(theirs.fileno()), json.dumps(settings)]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # where the library tells what it loads
            )
        self._writer = threading.Thread(target=self._write, name="generation-out", daemon=True)
        self._writer.start()

    def wait_until_ready(self) -> str | None:
        """Return why it will never be ready, or None once it is."""
        try:
            match self.hear():
                case "refused", why:
                    return str(why)
        except EOFError:
            return f"its process ended ({self.end()})"
        return None

    def say(self, *message: Any) -> None:
        self._outbox.put(message)

    def hear(self) -> tuple[Any, ...]:
        """Wait for what it says. Raises `EOFError` when it ended."""
        try:
            message: tuple[Any, ...] = self._connection.recv()
        except OSError as error:  # it ended in the middle of a word
            raise EOFError from error
        match message:
            case ("ready",):
                self.was_ready = True
            case (("broken" | "refused"), why):
                self._broken = str(why)
        return message

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """End it, if it still runs; returns how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._outbox.put(None)
        self._writer.join()
        self._connection.close()
        return self._broken or f"the process of the model ended with code {code}"

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # it ended, which who listens hears
            while (message := self._outbox.get()) is not None:
                self._connection.send(message)
