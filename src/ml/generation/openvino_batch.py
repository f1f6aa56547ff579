"""The running batch of OpenVINO GenAI, in a process of its own.

See `ml.generation.openvino_process`. If it ends by itself, the requests that it ran fail, those
that waited wait on, and another one is started.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml.errors import InternalError, NotReady, OutOfMemory
from ml.generation.child_process import ChildProcess
from ml.generation.engine import EngineRequest, StepStream
from ml.generation.request import FinishReason, Observer, Step, Token

__all__ = ["OpenVINOBatch"]

log = logging.getLogger(__name__)

_MODULE = "ml.generation.openvino_process"


@dataclass(eq=False, slots=True, kw_only=True)
class _Request(EngineRequest):
    fields: dict[str, Any]  # of the GenerationConfig
    taken: bool = False

    def token(self, id_: int, logprob: float) -> Token:
        """Return a token; its logprob is 0 where it was not asked for."""
        return Token(id_, logprob) if self.fields["logprobs"] else Token(id_)


class OpenVINOBatch:
    """Requests in the library's words, run at once; `settings` are those of `open_pipeline`.

    Its process opens the model while the caller does something else; then comes `open()`. If that
    ends, another one is started at once, or, with `when_asked`, by the next request.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        observer: Observer | None = None,
        when_asked: bool = False,
    ) -> None:
        self._observer = observer or Observer()
        self._when_asked = when_asked
        self._settings = settings
        self._changed = threading.Condition()
        self._requests: dict[int, _Request] = {}
        self._numbers = itertools.count()
        self._closed = False
        self._process = ChildProcess(_MODULE, self._settings)
        self._thread = threading.Thread(target=self._listen, name="generation", daemon=True)

    def open(self) -> None:
        """Wait until requests can be run. Raises `ValueError` for what OpenVINO cannot read."""
        if why := self._process.wait_until_ready():
            self._process.end()
            raise ValueError(why)
        self._thread.start()

    def close(self) -> None:
        """End the process at once; what runs or waits ends as cancelled."""
        with self._changed:
            self._closed = True
            self._process.kill()
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        else:  # it was never open
            self._process.end()

    async def run(
        self, prompt: Sequence[int], fields: dict[str, Any]
    ) -> AsyncGenerator[Step, None]:
        """Yield token by token; the last step says how it ended. Closing it frees the slot.

        `fields` are those of `config_fields`. Raises `NotReady` once the batch is closed.
        """
        steps = StepStream()
        request = _Request(prompt=list(prompt), send=steps.send, fields=fields)
        number = next(self._numbers)
        with self._changed:
            if self._closed:
                raise NotReady("The model is being unloaded.")
            self._requests[number] = request
            self._process.say("add", number, request.prompt, fields)
            self._changed.notify()
        try:
            async for step in steps:
                yield step
        finally:
            with self._changed:
                if self._requests.pop(number, None) is not None:
                    self._process.say("cancel", number)

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
                request.send(Step(request.token(id_, logprob)))
        if status == "FINISHED" and tokens:
            id_, logprob = tokens[-1]
            ends = () if request.fields["ignore_eos"] else request.fields["stop_token_ids"]
            reason = FinishReason.STOP if id_ in ends else FinishReason.LENGTH
            self._end(number, reason, token=request.token(id_, logprob))
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
            log.warning("the process of the model is started again: %s", how)
            for number, request in list(self._requests.items()):
                if request.taken or not was_ready:
                    self._end(number, FinishReason.ERROR, error=_failure(how))
        with self._changed:
            at_once = was_ready and not self._when_asked
            self._changed.wait_for(lambda: at_once or self._requests or self._closed)
            if not self._closed:
                self._process = ChildProcess(_MODULE, self._settings)
                for number, request in self._requests.items():
                    self._process.say("add", number, request.prompt, request.fields)
                return True
        for number in list(self._requests):
            self._end(number, FinishReason.CANCELLED)
        return False


def _failure(why: str) -> InternalError:
    log.error("a generation failed: %s", why)
    return InternalError()
