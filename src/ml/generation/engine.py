"""What every engine does: token ids in, tokens out, for many requests at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from ml.generation.request import (
    Finished,
    FinishReason,
    SamplingParameters,
    Step,
    Token,
    Unsupported,
)

if TYPE_CHECKING:
    from ml.generation.adapter_leases import Lease

__all__ = ["Engine", "EngineRequest", "StepStream", "require_left_out"]


class Engine(Protocol):
    """Makes tokens for many requests at once."""

    #: Tokens that a prompt and its answer may have together.
    max_length: int

    def generate(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        adapter: Lease | None = None,
    ) -> AsyncGenerator[Step, None]:
        """Yield token by token; the last step says how it ended. Closing it ends the request.

        `prompt` holds at least one and less than `max_length` token ids. `adapter` is a lease that
        the engine shares until it is done with the request. Raises `NotReady` once it is closed.
        """

    def require_supported(self, parameters: SamplingParameters) -> None:
        """Raise `InvalidInput` for what this engine cannot do, naming one that can.

        Also for a form that no answer can have, such as a schema that is none. Takes its time.
        """

    async def score(
        self, prompt: Sequence[int], *, top_logprobs: int = 0, adapter: Lease | None = None
    ) -> list[Token]:
        """Return the tokens of a prompt behind its first, each with its logprob in its place."""

    def close(self) -> None:
        """Stop after the current step; what runs or waits ends as cancelled."""


class StepStream:
    """The steps of one request, from an engine's thread to the event loop that made this."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[Step] = asyncio.Queue()
        self._ended = False

    def send(self, step: Step) -> None:
        """Pass a step on; may be called by any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._steps.put_nowait, step)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Step:
        """Return the next step; the one that is finished is the last."""
        if self._ended:
            raise StopAsyncIteration
        step = await self._steps.get()
        self._ended = step.finished is not None
        return step


@dataclass(eq=False, slots=True, kw_only=True)
class EngineRequest:
    """What an engine knows of a request that waits or runs; `send` takes its steps."""

    prompt: list[int]
    send: Callable[[Step], None]
    arrived: float = field(default_factory=time.monotonic)
    made: int = 0  # tokens generated

    def finish(
        self,
        reason: FinishReason,
        *,
        token: Token | None = None,
        error: Exception | None = None,
    ) -> None:
        """Tell the reader how it ended."""
        self.send(Step(token, Finished(reason, len(self.prompt), self.made, error)))


def require_left_out(
    parameters: SamplingParameters, names: Collection[str], *, engine: str, other: str
) -> None:
    """Raise `Unsupported` if parameters that `engine` cannot do differ from their defaults."""
    defaults = SamplingParameters()
    for name in names:
        if getattr(parameters, name) != getattr(defaults, name):
            raise Unsupported(name, f"engine {engine} cannot do this; engine {other} can")
