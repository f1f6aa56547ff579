"""Continuous batching by OpenVINO GenAI, which reads GGUF files and OpenVINO's own folders."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError, InternalError, NotReady
from ml.generation.arguments import LanguageModelArguments
from ml.generation.engine import require_left_out
from ml.generation.form_check import FormCheck
from ml.generation.openvino_batch import OpenVINOBatch
from ml.generation.openvino_config import config_fields, guessing_fields, is_sampled
from ml.generation.request import Observer, SamplingParameters, Step, Token, Unsupported

if TYPE_CHECKING:
    from ml.generation.adapter_leases import Lease
    from ml.models.openvino_model import OpenVINOModel

__all__ = ["OpenVINOEngine"]

_OTHER = "transformers"
#: What the library has no way for.
_UNABLE = ("logit_bias", "top_logprobs")
#: What it adds to logits below zero, in place of taking it.
_WRONG_BELOW_ZERO = ("frequency_penalty", "presence_penalty")
_OF_SCORER = {
    "slots": 1,
    "reuse_prefixes": False,
    "cache_gib": None,
    "prompt_lookup": False,
    "draft": None,
}
_SCORING = SamplingParameters(max_new_tokens=0, logprobs=True)


class OpenVINOEngine:
    """Runs a causal language model of OpenVINO for many requests at once, on the CPU.

    Its process opens the model while the caller does something else; then comes `open()`.

    Of the arguments it reads how it serves: the cache has room for `slots` requests of
    `max_length` tokens, or `cache_gib` GiB. A prompt that begins like another one is read from
    there on, unless `reuse_prefixes` is off; how much of it, the library does not tell, so the
    observer hears of none.

    The logits of a row differ in their last bits with the rows that share its step. An answer of
    a form ends with it, also where `ignore_eos` is set. Frequency and presence penalties are
    refused unless the model has `positive_logits`: OpenVINO 2026.4 adds them to those below zero.

    `prompt_lookup` is how many tokens each step guesses from what the prompt goes on with, and
    `draft_model` a smaller one with the same tokens that guesses; either is faster with few
    requests. With a draft, sampled answers are refused: they end the process of OpenVINO 2026.4.

    Prompts are scored in a batch of their own, by a second process that the first of them starts:
    in one batch with answers, the library takes their logits from the wrong rows.
    """

    def __init__(
        self,
        model: OpenVINOModel,
        arguments: LanguageModelArguments,
        *,
        max_length: int,
        end_tokens: Sequence[int] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.max_length = max_length
        self._model = model
        draft = arguments.draft_source()
        self._settings: dict[str, Any] = {
            "source": str(model.source),
            "slots": arguments.slots,
            "max_length": max_length,
            "reuse_prefixes": arguments.reuse_prefixes,
            "cache_gib": arguments.cache_gib,
            "prompt_lookup": arguments.prompt_lookup is not None,
            "draft": None if draft is None else str(draft),
        }
        self._batch = OpenVINOBatch(self._settings, observer=observer)
        self._unable = _UNABLE if model.positive_logits else (*_UNABLE, *_WRONG_BELOW_ZERO)
        self._guessing = guessing_fields(arguments.prompt_lookup, draft is not None)
        try:
            self._end_tokens = list(model.end_tokens if end_tokens is None else end_tokens)
        except ConfigurationError:  # of its tokenizer, which is read only now
            self._batch.close()
            raise
        self._forms = FormCheck(
            {
                "source": str(model.source),
                "vocabulary": model.vocabulary,
                "end_tokens": self._end_tokens,
            }
        )
        self._scorer: OpenVINOBatch | None = None
        self._scorer_changes = threading.Lock()
        self._closed = False

    def open(self) -> None:
        """Wait until requests can be run. Raises `ConfigurationError` for what cannot be read."""
        try:
            self._batch.open()
        except ValueError as error:
            name = self._model.source.name
            raise ConfigurationError(f"OpenVINO cannot read {name}: {error}") from error

    def close(self) -> None:
        """End the processes at once; what runs or waits ends as cancelled."""
        self._batch.close()
        with self._scorer_changes:
            self._closed = True
            if self._scorer is not None:
                self._scorer.close()
        self._forms.close()

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
        room = self.max_length - len(prompt)
        fields = config_fields(parameters, room=room, end_tokens=self._end_tokens)
        async with contextlib.aclosing(self._batch.run(prompt, fields | self._guessing)) as steps:
            async for step in steps:
                yield step

    def require_supported(self, parameters: SamplingParameters) -> None:
        """Raise `InvalidInput` for what this engine cannot do, naming one that can.

        Also for a form that no answer can have, or that takes too long to be compiled.
        """
        require_left_out(parameters, self._unable, engine="openvino", other=_OTHER)
        if self._settings["draft"] is not None and is_sampled(parameters):
            raise Unsupported(
                "temperature",
                "with a draft_model, engine openvino takes the likeliest token alone; give 0, or "
                "leave draft_model out of the service's arguments",
            )
        if parameters.form is not None:
            self._forms.require_possible(parameters.form)

    async def score(
        self, prompt: Sequence[int], *, top_logprobs: int = 0, adapter: Lease | None = None
    ) -> list[Token]:
        """Return the tokens of a prompt behind its first, each with its logprob in its place.

        Raises `InvalidInput` for `top_logprobs`, which the library does not tell.
        """
        self.require_supported(replace(_SCORING, top_logprobs=top_logprobs))
        scorer = await asyncio.to_thread(self._started_scorer)
        fields = config_fields(_SCORING, room=1, end_tokens=self._end_tokens) | {"echo": True}
        tokens = []
        async with contextlib.aclosing(scorer.run(prompt, fields)) as steps:
            async for step in steps:
                if step.token is not None:
                    tokens.append(step.token)
                elif step.finished is not None:
                    raise step.finished.error or NotReady("The model is being unloaded.")
        return tokens[1:]

    def _started_scorer(self) -> OpenVINOBatch:
        with self._scorer_changes:
            if self._closed:
                raise NotReady("The model is being unloaded.")
            if self._scorer is None:
                # One at a time: the logits of a piece of a prompt are all kept.
                # That which answers is opened first where both have ended.
                scorer = OpenVINOBatch(self._settings | _OF_SCORER, when_asked=True)
                try:
                    scorer.open()
                except ValueError as error:
                    raise InternalError(f"prompts cannot be scored: {error}") from error
                self._scorer = scorer
            return self._scorer
