"""What a generation is asked for, and what it yields."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ml.errors import InvalidInput, NotFound, ServiceError
from ml.generation.answer_form import AnswerForm

if TYPE_CHECKING:
    from ml.generation.tool_format import ToolUse

__all__ = [
    "AdapterTaken",
    "FinishReason",
    "Finished",
    "ModelNotFound",
    "Observer",
    "Piece",
    "Prompt",
    "PromptTooLong",
    "SamplingParameters",
    "Step",
    "Token",
    "Unsupported",
    "collect",
]


class AdapterTaken(ServiceError):
    """There is another adapter of this name."""

    status = 409


class ModelNotFound(NotFound):
    """There is no model, or adapter, of the name that a request gives."""


class PromptTooLong(InvalidInput):
    """A prompt leaves no room for an answer; the APIs have words of their own for the numbers.

    `tokens` is the number in words: "3000", or "over 2048" where nobody counted.
    """

    def __init__(self, tokens: str, most: int) -> None:
        self.tokens, self.most = tokens, most
        super().__init__(
            f"the prompt has {tokens} tokens with its history; prompt and answer together may "
            f"have {most}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokens, self.most)


class Unsupported(InvalidInput):
    """An engine cannot do what a `parameter` of `SamplingParameters` asks for.

    The APIs have names of their own for it.
    """

    def __init__(self, parameter: str, reason: str) -> None:
        self.parameter, self.reason = parameter, reason
        super().__init__(f"{parameter}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.parameter, self.reason)


class FinishReason(StrEnum):
    """Why a generation ended."""

    #: The model ended its turn.
    STOP = "stop"
    #: One of the caller's stop strings came.
    STOP_STRING = "stop_string"
    #: `max_new_tokens` were generated, or the context is full.
    LENGTH = "length"
    #: The caller went away or its deadline passed.
    CANCELLED = "cancelled"
    #: It failed; the others go on.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How tokens are chosen; `SamplingOptions` has the bounds.

    `temperature` 0 takes the likeliest token, as `top_p` 0 does; `top_k` 0, `top_p` 1 and `min_p`
    0 keep all. The same `seed` gives the same choices for the same logits; logits differ in their
    last bits with the number of requests that share a step.

    Attributes:
        min_p: keeps the tokens that are at least so likely as a part of the likeliest one.
        repetition_penalty: divides the positive logits of all tokens that prompt and answer have,
            and multiplies the negative ones; 1 changes nothing.
        frequency_penalty: taken from a token's logit for each time that the answer has it.
        presence_penalty: taken from the logit of each token that the answer has.
        logit_bias: added to the logits of tokens, by their ids.
        ignore_eos: the end of the turn does not end the answer.
        logprobs: each token comes with its logprob, which costs time.
        top_logprobs: how many of the likeliest tokens each token comes with.
        form: what the answer has to look like.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: Sequence[str] = ()
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    form: AnswerForm | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model reads it: token ids, and how to go on from them.

    `tools` are those that the answer may call.
    """

    ids: list[int]
    sampling: SamplingParameters
    adapter: str | None = None
    keeps_stop: bool = False
    tools: ToolUse | None = None

    def several(self, number: int) -> list[Prompt]:
        """Return the prompts of so many answers; each has a seed of its own, if there is one."""
        seed = self.sampling.seed
        if seed is None:
            return [self] * number
        samplings = [replace(self.sampling, seed=(seed + i) % 2**63) for i in range(number)]
        return [replace(self, sampling=sampling) for sampling in samplings]


@dataclass(frozen=True, slots=True)
class Token:
    """A token with `logprob`, the natural logarithm of its probability.

    Where `logprobs` does not ask for it, an engine may leave it at nan. `top` holds the likeliest
    tokens in its place with their logprobs, likeliest first, as many as `top_logprobs` asks for.
    Probabilities are those of the model: before temperature, penalties, bias and form.
    """

    id: int
    logprob: float = math.nan
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What an engine yields: a token, and with the last one how it ended.

    A generation that fails or is cancelled ends without a token.
    """

    token: Token | None
    finished: Finished | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A token with the text that it completed, often none; the last says how it ended."""

    text: str
    token: Token
    is_special: bool
    finished: Finished | None = None


async def collect(pieces: AsyncGenerator[Piece, None]) -> tuple[list[Piece], Finished]:
    """Return all pieces of a generation, and how it ended."""
    collected: list[Piece] = []
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            collected.append(piece)
            if piece.finished is not None:
                return collected, piece.finished
    raise RuntimeError("a generation stopped without an end")


class Observer:
    """Hears of what happens to generations, from any thread; this one does nothing with it."""

    def taken_in(self, waited_seconds: float, known_tokens: int) -> None:
        """A request got a slot, where so many tokens of its prompt need not be read again."""

    def began(self, seconds: float, prompt_tokens: int) -> None:
        """A request's first token was made, so long after the request arrived."""

    def stepped(self, rows: int) -> None:
        """One step made a further token for so many requests."""

    def ended(self, reason: FinishReason) -> None:
        """A request ended."""
