"""Continuous batching by vLLM: on GPUs, with many LoRA adapters in one batch.

The model runs in processes of vLLM's. If they end by themselves, the requests that they ran fail,
and the next one starts them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError, InternalError, InvalidInput
from ml.generation.answer_grammar import require_form
from ml.generation.arguments import LanguageModelArguments
from ml.generation.engine import EngineRequest, StepStream
from ml.generation.request import FinishReason, Observer, SamplingParameters, Step, Token
from ml.generation.vllm_adapters import VLLMAdapters
from ml.generation.vllm_process import VLLMProcess
from ml.generation.vllm_sampling import sampling_params, scoring_params, token_of

if TYPE_CHECKING:
    from ml.generation.adapter_leases import Lease

__all__ = ["VLLMEngine"]

log = logging.getLogger(__name__)

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


@dataclass(eq=False, slots=True, kw_only=True)
class _Request(EngineRequest):
    parameters: SamplingParameters


class VLLMEngine:
    """Runs a causal language model of vLLM for many requests at once.

    Greedy tokens are those of `model.generate`: exactly in float32, and in 16 bits as long as no
    two tokens are as likely as each other within their precision. A prompt that begins like
    another one is read from there on, unless `reuse_prefixes` is off.

    Raises `ConfigurationError` for what vLLM cannot run.
    """

    def __init__(
        self,
        source: str,
        arguments: LanguageModelArguments,
        *,
        end_tokens: Sequence[int],
        max_length: int,
        observer: Observer | None = None,
    ) -> None:
        self.max_length = max_length
        self._process = VLLMProcess(source, arguments, max_length=max_length)
        #: The adapters that requests may have, if there is a folder for them.
        self.adapters: VLLMAdapters | None = None
        if arguments.adapters_path is not None:
            self.adapters = VLLMAdapters(
                self._process,
                Path(arguments.adapters_path),
                max_adapters=arguments.max_adapters,
                max_rank=arguments.max_adapter_rank,
            )
        self._end_tokens = list(end_tokens)
        self._observer = observer or Observer()
        self._numbers = itertools.count(1)
        self._further = 0  # tokens of the current step that are not a request's first
        try:
            self._process.start()
        except Exception as error:
            raise ConfigurationError(f"vLLM cannot run this model: {_in_words(error)}") from error

    def close(self) -> None:
        """End the processes; what runs or waits ends as cancelled."""
        self._process.stop()

    async def generate(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        adapter: Lease | None = None,
    ) -> AsyncGenerator[Step, None]:
        """Yield token by token; the last step says how it ended. Closing it frees the slot.

        `prompt` holds at least one and less than `max_length` token ids. Raises `NotReady` once the
        engine is closed.
        """
        steps = StepStream()
        request = _Request(prompt=list(prompt), send=steps.send, parameters=parameters)
        answer = self._process.run(self._answer(request, adapter))
        if adapter is not None:
            shared = adapter.share()
            answer.add_done_callback(lambda _: shared.close())
        try:
            async for step in steps:
                yield step
        finally:
            answer.cancel()

    def require_supported(self, parameters: SamplingParameters) -> None:
        """Raise `InvalidInput` for what vLLM refuses, such as a temperature above 2.

        Also for a form that no answer can have, or that costs too much.
        """
        if parameters.form is not None:
            require_form(parameters.form)
        from vllm.exceptions import VLLMClientError

        try:
            sampling_params(parameters, room=1, end_tokens=self._end_tokens)
        except VLLMClientError as error:
            reason = str(error.args[0]).rstrip(".")
            raise InvalidInput(f"engine vllm: {reason}; engine transformers can") from error

    async def score(
        self, prompt: Sequence[int], *, top_logprobs: int = 0, adapter: Lease | None = None
    ) -> list[Token]:
        """Return the tokens of a prompt behind its first, each with its logprob in its place."""
        scores = self._process.run(self._score(list(prompt), top_logprobs, adapter))
        try:
            return await asyncio.wrap_future(scores)
        finally:
            scores.cancel()

    # --- in the engine's loop -----------------------------------------------------------------

    async def _answer(self, request: _Request, adapter: Lease | None) -> None:
        try:
            params = sampling_params(
                request.parameters,
                room=self.max_length - len(request.prompt),
                end_tokens=self._end_tokens,
            )
            async with contextlib.aclosing(
                self._outputs(request.prompt, params, adapter)
            ) as outputs:
                async for output in outputs:
                    self._pass_on(request, output)
        except asyncio.CancelledError:
            request.finish(FinishReason.CANCELLED)
            raise
        except Exception as error:
            log.error("a generation failed: %s", _in_words(error))
            request.finish(FinishReason.ERROR, error=InternalError())

    async def _outputs(
        self, prompt: list[int], params: Any, adapter: Lease | None
    ) -> AsyncGenerator[Any, None]:
        lora = None
        if adapter is not None and self.adapters is not None:
            lora = self.adapters.request_of(adapter)
        llm = await self._process.engine()
        outputs = llm.generate(
            {"type": "token", "prompt_token_ids": prompt},
            params,
            request_id=str(next(self._numbers)),
            lora_request=lora,
        )
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                yield output

    def _pass_on(self, request: _Request, output: Any) -> None:
        [made] = output.outputs
        for place, id_ in enumerate(made.token_ids, 1):
            known = None if made.logprobs is None else made.logprobs[place - 1]
            token = token_of(id_, known, request.parameters.top_logprobs)
            if known is not None and not math.isfinite(token.logprob):
                raise InternalError("The logits are not finite.")
            request.made += 1
            if request.made == 1:
                self._began(request, output)
            else:
                self._count_further()
            if place == len(made.token_ids) and made.finish_reason is not None:
                request.finish(_REASONS[made.finish_reason], token=token)
            else:
                request.send(Step(token))

    def _began(self, request: _Request, output: Any) -> None:
        stages = output.metrics
        waited = max(0.0, stages.scheduled_ts - stages.queued_ts) if stages is not None else 0.0
        self._observer.taken_in(waited, output.num_cached_tokens or 0)
        self._observer.began(time.monotonic() - request.arrived, len(request.prompt))

    def _count_further(self) -> None:
        """Count a token; all of one step come in one round of the loop."""
        if not self._further:
            asyncio.get_running_loop().call_soon(self._stepped)
        self._further += 1

    def _stepped(self) -> None:
        self._observer.stepped(self._further)
        self._further = 0

    async def _score(
        self, prompt: list[int], top_logprobs: int, adapter: Lease | None
    ) -> list[Token]:
        params = scoring_params(top_logprobs)
        async with contextlib.aclosing(self._outputs(prompt, params, adapter)) as outputs:
            async for output in outputs:
                known = output.prompt_logprobs
        return [
            token_of(id_, logprobs, top_logprobs)
            for id_, logprobs in zip(prompt[1:], known[1:], strict=True)
        ]


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
