"""Continuous batching by OpenVINO GenAI, which reads GGUF files and OpenVINO's own folders."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError, InternalError, NotReady
from ml.generation.engine import require_left_out
from ml.generation.form_check import FormCheck
from ml.generation.openvino_batch import OpenVINOBatch
from ml.generation.openvino_config import config_fields
from ml.generation.request import Observer, SamplingParameters, Step, Token

if TYPE_CHECKING:
    from ml.generation.adapter_leases import Lease

__all__ = ["OpenVINOEngine"]

_OTHER = "transformers"
#: What the library has no way for.
_UNABLE = ("logit_bias", "top_logprobs")
#: What it adds to logits below zero, in place of taking it.
_WRONG_BELOW_ZERO = ("frequency_penalty", "presence_penalty")
_SCORING = SamplingParameters(max_new_tokens=0)


class OpenVINOEngine:
    """Runs a causal language model of OpenVINO for many requests at once, on the CPU.

    `source` is a GGUF file, or a folder with `openvino_model.xml`. The cache has room for `slots`
    requests of `max_length` tokens, or `cache_gib` GiB. A prompt that begins like another one is
    read from there on, unless `reuse_prefixes` is off; how much of it, the library does not tell,
    so the observer hears of none.

    The logits of a row differ in their last bits with the rows that share its step. An answer of
    a form ends with it, also where `ignore_eos` is set. Frequency and presence penalties are
    refused unless the model has `positive_logits`: OpenVINO 2026.4 adds them to those below zero.

    Prompts are scored in a batch of their own, by a second process that the first of them starts:
    in one batch with answers, the library takes their logits from the wrong rows.

    Raises `ConfigurationError` for what OpenVINO cannot read.
    """

    def __init__(
        self,
        source: Path,
        *,
        end_tokens: Sequence[int],
        vocabulary: int,
        positive_logits: bool = False,
        slots: int = 16,
        max_length: int = 2048,
        observer: Observer | None = None,
        reuse_prefixes: bool = True,
        cache_gib: int | None = None,
    ) -> None:
        self.max_length = max_length
        self._end_tokens = list(end_tokens)
        self._unable = _UNABLE if positive_logits else (*_UNABLE, *_WRONG_BELOW_ZERO)
        self._settings: dict[str, Any] = {
            "source": str(source),
            "slots": slots,
            "max_length": max_length,
            "reuse_prefixes": reuse_prefixes,
            "cache_gib": cache_gib,
        }
        try:
            self._batch = OpenVINOBatch(self._settings, end_tokens=end_tokens, observer=observer)
        except ValueError as error:
            raise ConfigurationError(f"OpenVINO cannot read {source.name}: {error}") from error
        self._scorer: OpenVINOBatch | None = None
        self._scorer_changes = threading.Lock()
        self._closed = False
        self._forms = FormCheck(
            {"source": str(source), "vocabulary": vocabulary, "end_tokens": self._end_tokens}
        )

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
        async with contextlib.aclosing(self._batch.run(prompt, fields)) as steps:
            async for step in steps:
                yield step

    def require_supported(self, parameters: SamplingParameters) -> None:
        """Raise `InvalidInput` for what this engine cannot do, naming one that can.

        Also for a form that no answer can have, or that takes too long to be compiled.
        """
        require_left_out(parameters, self._unable, engine="openvino", other=_OTHER)
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
                settings = self._settings | {"slots": 1, "reuse_prefixes": False, "cache_gib": None}
                try:
                    self._scorer = OpenVINOBatch(settings, end_tokens=())
                except ValueError as error:
                    raise InternalError(f"prompts cannot be scored: {error}") from error
            return self._scorer
