"""What a model answers to the same prompts as it learns."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerState

from ml.finetuning.asking import greedy, question
from ml.finetuning.backends.backend import Backend
from ml.finetuning.request import TrainingParameters
from ml.jobs.context import JobContext
from ml.jobs.event_type import EventType

__all__ = ["Sampler"]

#: Short answers show what was learnt, and are made in a moment.
_NEW_TOKENS = 64


class Sampler(TrainerCallback):
    """Has the request's `sample_prompts` answered before the first step, then every so many steps.

    Training goes on as if nobody had asked; where asking fails, without further answers.
    """

    def __init__(
        self, context: JobContext, backend: Backend, tokenizer: Any, request: TrainingParameters
    ) -> None:
        self._context = context
        self._backend = backend
        self._tokenizer = tokenizer
        self._every = request.sample_steps
        self._most = min(_NEW_TOKENS, request.max_seq_length // 2)
        room = request.max_seq_length - self._most
        self._prompts = [
            (text, question(tokenizer, text)[-room:]) for text in request.sample_prompts
        ]

    def on_train_begin(
        self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Ask the model that has learnt nothing yet."""
        if state.global_step == 0:
            self._ask(model, 0)

    def on_step_end(
        self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Ask after every so many steps, and after the last one."""
        step = state.global_step
        if step % self._every == 0 or step >= state.max_steps:
            self._ask(model, step)

    def _ask(self, model: Any, step: int) -> None:
        if not self._prompts:
            return
        try:
            samples = self._samples(model)
        except Exception as error:
            self._prompts = []
            message = f"The samples failed ({type(error).__name__}); the training goes on"
            self._context.event(EventType.LOG, {"level": "WARNING", "message": message})
            return
        if samples is not None:
            self._context.event(EventType.SAMPLE, {"step": step, "samples": samples})

    def _samples(self, model: Any) -> list[dict[str, str]] | None:
        """Return what it answers; None if the job is asked to stop meanwhile."""
        samples = []
        with self._backend.asking(model):
            for text, prompt in self._prompts:
                if self._context.stop_request() is not None:
                    return None
                answer = greedy(model, prompt, self._most)
                said = self._tokenizer.decode(answer, skip_special_tokens=True)
                samples.append({"prompt": text, "answer": said.strip()})
        return samples
