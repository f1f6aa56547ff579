"""Continuous batching: requests join and leave a running batch between two tokens.

One thread runs the model. Each round it reads a piece of the newcomers' prompts, so that a long
prompt does not stall the others, and then makes one token for every running request.

The rows of the cache: `[0, n)` belong to the running requests, those behind to the ones that join.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import torch

from ml.errors import InternalError, InvalidInput, NotReady, OutOfMemory
from ml.generation.adapter_leases import Lease
from ml.generation.adapters import Adapters
from ml.generation.answer_matcher import AnswerMatcher, AnswerMatchers
from ml.generation.attention import use_grouped_attention
from ml.generation.engine import StepStream
from ml.generation.request import FinishReason, Observer, SamplingParameters, Step, Token
from ml.generation.rows import Rows, common_prefix
from ml.generation.running_request import RunningRequest
from ml.generation.sampling import Sampler, choose
from ml.generation.scoring import Scoring
from ml.generation.slots import SlotCache, Span

__all__ = ["TransformersEngine"]

log = logging.getLogger(__name__)

#: Attention reads a multiple of this many positions, so that shapes repeat.
_BUCKET = 64
#: Prompt tokens read between two tokens of the running requests.
_PREFILL_TOKENS = 256
#: Prompts are read in multiples of it: oneDNN keeps a kernel of some MB for each number of rows.
_PREFILL_MULTIPLE = 8
#: A prompt waits for another one that begins with so many of the same tokens, which are read once.
_WORTH_WAITING = 64


class TransformersEngine:
    """Runs a causal language model of transformers for many requests at once.

    A prompt that begins like one that is, or was, in the cache is read from there on, unless
    `reuse_prefixes` is off: who measures times can learn from them what others asked.

    Greedy tokens are those of `model.generate` for the same prompt: exactly in float32; in
    bfloat16 as long as no two tokens are as likely as each other within its precision.
    """

    def __init__(
        self,
        model: Any,
        *,
        end_tokens: Sequence[int],
        slots: int = 16,
        max_length: int = 2048,
        observer: Observer | None = None,
        adapters: Adapters | None = None,
        matchers: AnswerMatchers | None = None,
        reuse_prefixes: bool = True,
    ) -> None:
        use_grouped_attention(model)
        self.max_length = max_length
        self._adapters = adapters
        self._matchers = matchers
        self._observer = observer or Observer()
        self._model = model
        self._end_tokens = frozenset(end_tokens)
        layers = model.config.get_text_config().num_hidden_layers
        self._cache = SlotCache(layers, slots, max_length)
        self._rows = Rows(self._cache, reuse_prefixes=reuse_prefixes)
        self._waiting: deque[RunningRequest] = deque()
        self._running: list[RunningRequest] = []
        self._joining: list[RunningRequest] = []
        self._scoring: deque[Scoring] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the current step; what runs or waits ends as cancelled."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    async def generate(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        adapter: Lease | None = None,
    ) -> AsyncGenerator[Step, None]:
        """Yield token by token; the last step says how it ended. Closing it frees the slot.

        `prompt` holds at least one and less than `max_length` token ids. `adapter` is a lease of
        the engine's adapters, which the engine shares until its thread is done with the request.
        Raises `NotReady` once the engine is closed.
        """
        if adapter is not None and self._adapters is None:
            raise ValueError("the engine was made without adapters")
        steps = StepStream()
        matcher = await asyncio.to_thread(self._matcher, parameters) if parameters.form else None
        sampler = Sampler(parameters, prompt, matcher)
        request = RunningRequest(
            prompt=list(prompt), send=steps.send, parameters=parameters, sampler=sampler
        )
        with self._wake:
            if self._stopping:
                raise NotReady("The model is being unloaded.")
            request.adapter = adapter and adapter.share()
            self._waiting.append(request)
            self._wake.notify()
        try:
            async for step in steps:
                yield step
        finally:
            request.cancelled = True

    def require_supported(self, parameters: SamplingParameters) -> None:
        """Raise `InvalidInput` for a form that no answer can have."""
        self._matcher(parameters)

    def _matcher(self, parameters: SamplingParameters) -> AnswerMatcher | None:
        if parameters.form is None:
            return None
        if self._matchers is None:
            raise InvalidInput("the engine was made without a tokenizer: answers have no form")
        return self._matchers.new(parameters.form)

    async def score(
        self, prompt: Sequence[int], *, top_logprobs: int = 0, adapter: Lease | None = None
    ) -> list[Token]:
        """Return the tokens of a prompt behind its first, each with its logprob in its place.

        A piece of the prompt is read between two steps of the others. Raises `NotReady` once the
        engine is closed.
        """
        scoring = Scoring(prompt, top_logprobs=top_logprobs)
        with self._wake:
            if self._stopping:
                raise NotReady("The model is being unloaded.")
            scoring.adapter = adapter and adapter.share()
            self._scoring.append(scoring)
            self._wake.notify()
        return await asyncio.wrap_future(scoring.result)

    # --- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        with torch.inference_mode():
            while self._wait_for_work():
                try:
                    self._round()
                except Exception as error:
                    log.exception("a generation step failed")
                    self._fail_all(error)
        self._fail_all(None)

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (self._stopping or self._has_work()):
                self._wake.wait()
            return not self._stopping

    def _has_work(self) -> bool:
        return bool(self._waiting or self._running or self._joining or self._scoring)

    def _round(self) -> None:
        self._dismiss_cancelled()
        self._take_in()
        if self._joining:
            self._read()
        if self._running:
            self._step()
        if self._scoring:
            self._score()

    def _score(self) -> None:
        """Read on in one prompt whose probabilities are asked for."""
        scoring = self._scoring[0]
        if not scoring.is_over:
            try:
                if self._adapters is not None:
                    self._adapters.select([scoring.adapter])
                scoring.read_on(self._model)
            except Exception as error:
                log.exception("a prompt could not be scored")
                scoring.error = _seen_by_callers(error)
        if scoring.is_over:
            self._scoring.popleft().end()

    def _dismiss_cancelled(self) -> None:
        for row in range(len(self._running) - 1, -1, -1):
            if self._running[row].cancelled:
                self._leave(row, FinishReason.CANCELLED)
        for request in [r for r in self._joining if r.cancelled]:
            last = len(self._joining) - 1
            place = self._joining.index(request)
            self._rows.swap(len(self._running) + place, len(self._running) + last)
            self._joining[place] = self._joining[last]
            self._joining.pop()
            request.finish(FinishReason.CANCELLED)
        with self._wake:
            cancelled = [r for r in self._waiting if r.cancelled]
            for request in cancelled:
                self._waiting.remove(request)
        for request in cancelled:
            request.finish(FinishReason.CANCELLED)

    def _take_in(self) -> None:
        """Give the free rows to those who wait."""
        while self._waiting:
            row = len(self._running) + len(self._joining)
            if row == self._cache.slots or self._is_being_read(self._waiting[0]):
                return
            request = self._waiting.popleft()
            request.row = self._rows.take(row, request.prompt, request.loaded_adapter)
            self._joining.append(request)
            self._observer.taken_in(time.monotonic() - request.arrived, request.length)

    def _is_being_read(self, request: RunningRequest) -> bool:
        """Whether so much of a prompt is read for another now that it is worth the wait."""
        if not self._rows.reuses_prefixes:
            return False
        adapter = request.loaded_adapter
        shared = [
            common_prefix(request.prompt, other.prompt)
            for other in self._joining
            if other.row.adapter is adapter
        ]
        known = self._rows.known(request.prompt, adapter)
        return max(shared, default=0) >= known + _WORTH_WAITING

    def _read(self) -> None:
        """Read on in the prompts of those who join; who is through with it starts to run."""
        requests, pieces = self._next_pieces()
        first, longest = len(self._running), max(map(len, pieces))
        width = -(-longest // _PREFILL_MULTIPLE) * _PREFILL_MULTIPLE
        starts = [r.length for r in requests]
        counts = [len(piece) for piece in pieces]
        end = max(map(sum, zip(starts, counts, strict=True)))
        self._cache.span = Span(slice(first, first + len(requests)), starts, counts, end)
        # Each piece ends at the last column; the padding before it attends, and is not kept.
        ids = [[0] * (width - len(piece)) + piece for piece in pieces]
        before = torch.tensor([s + c - width for s, c in zip(starts, counts, strict=True)])
        positions = (before[:, None] + torch.arange(width)).clamp(min=0).to(self._model.device)
        mask = torch.arange(end, device=self._model.device) <= positions[..., None]
        logits = self._forward(requests, ids, positions, mask[:, None])
        for request, piece in zip(requests, pieces, strict=True):
            request.row.tokens += piece
        if requests[0].length == len(requests[0].prompt):
            del self._joining[: len(requests)]
            self._running += requests
            self._accept(requests, logits)

    def _next_pieces(self) -> tuple[list[RunningRequest], list[list[int]]]:
        """Return whose prompts are read next: one alone for a piece of it, or all of several."""
        requests: list[RunningRequest] = []
        pieces: list[list[int]] = []
        width = 0
        for request in self._joining:
            piece = request.prompt[request.length : request.length + _PREFILL_TOKENS]
            width = max(width, len(piece))
            if requests and width * (len(requests) + 1) > _PREFILL_TOKENS:
                break
            requests.append(request)
            pieces.append(piece)
        return requests, pieces

    def _step(self) -> None:
        requests = list(self._running)
        lengths = torch.tensor([r.length for r in requests], device=self._model.device)
        longest = max(r.length for r in requests) + 1
        read = min(-(-longest // _BUCKET) * _BUCKET, self.max_length)
        self._cache.span = Span(slice(0, len(requests)), lengths, [], read)
        mask = torch.arange(read, device=self._model.device)[None, :] <= lengths[:, None]
        ids = [[r.last] for r in requests]
        logits = self._forward(requests, ids, lengths[:, None], mask[:, None, None])
        for request in requests:
            request.row.tokens.append(request.last)
        self._observer.stepped(len(requests))
        self._accept(requests, logits)

    def _forward(
        self,
        requests: list[RunningRequest],
        ids: list[list[int]],
        positions: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        if self._adapters is not None:
            self._adapters.select([r.adapter for r in requests])
        output = self._model(
            input_ids=torch.tensor(ids, device=self._model.device),
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _accept(self, requests: list[RunningRequest], logits: torch.Tensor) -> None:
        """Give each request its next token; those that end with it leave."""
        tokens = choose(logits, [request.sampler for request in requests])
        for request, token in zip(requests, tokens, strict=True):
            row = self._running.index(request)
            if token is None:
                error = request.sampler.fault or InternalError("The logits are not finite.")
                self._leave(row, FinishReason.ERROR, error=error)
                continue
            reason = request.accept(token, self._end_tokens, self.max_length)
            if request.made == 1:
                self._observer.began(time.monotonic() - request.arrived, len(request.prompt))
            if reason is not None:
                self._leave(row, reason, token=token)
            else:
                request.send(Step(token))

    def _leave(
        self,
        row: int,
        reason: FinishReason,
        *,
        token: Token | None = None,
        error: Exception | None = None,
    ) -> None:
        request = self._running[row]
        last = len(self._running) - 1
        self._rows.swap(row, last)
        self._running[row] = self._running[last]
        self._running.pop()
        if self._joining:  # they move up, by the last of them going first
            self._rows.swap(last, last + len(self._joining))
            self._joining.insert(0, self._joining.pop())
        request.finish(reason, token=token, error=error)

    def _fail_all(self, error: Exception | None) -> None:
        error = error and _seen_by_callers(error)
        reason = FinishReason.CANCELLED if error is None else FinishReason.ERROR
        ended = [*self._running, *self._joining]
        if error is None:
            ended += self._waiting
            self._waiting.clear()
            while self._scoring:
                self._scoring[0].error = NotReady("The model is being unloaded.")
                self._scoring.popleft().end()
        self._running.clear()
        self._joining.clear()
        self._rows.forget()
        for request in ended:
            request.finish(reason, error=error)


def _seen_by_callers(error: Exception) -> Exception:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    ):
        return OutOfMemory()
    return error
