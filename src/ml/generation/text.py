"""From tokens to text, piece by piece."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ml.errors import NotReady
from ml.generation.request import Finished, FinishReason, Piece, Step

__all__ = ["StopStrings", "TextStream", "overlap", "read_text"]


class StopStrings:
    """Passes text on until one of the stop strings comes, which is passed on if it is `kept`.

    The end of the text that may turn out to be the beginning of a stop string is held back.
    """

    def __init__(self, stops: Sequence[str], *, kept: bool = False) -> None:
        self._stops = [stop for stop in stops if stop]
        self._kept = kept
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Return what may be passed on after more text came."""
        text = self._held + text
        found = [(position, stop) for stop in self._stops if (position := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            position, stop = min(found)
            return text[: position + len(stop) if self._kept else position]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class TextStream:
    """Decodes tokens to text that ends on character boundaries; special tokens have no text."""

    def __init__(
        self, tokenizer: Any, stops: Sequence[str] = (), *, keeps_stop: bool = False
    ) -> None:
        from tokenizers.decoders import DecodeStream  # whoever only refuses requests needs none

        self._tokenizer = tokenizer.backend_tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stops = StopStrings(stops, kept=keeps_stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._stops.stopped

    def is_special(self, token_id: int) -> bool:
        """Return whether a token stands for no text, such as the end of a turn."""
        return token_id in self._special

    def feed(self, token_id: int) -> str:
        """Return the text that one more token completes, often none."""
        return self._stops.feed(self._stream.step(self._tokenizer, token_id) or "")

    def rest(self) -> str:
        """Return what was held back, when no more tokens come."""
        return self._stops.rest()


async def read_text(
    steps: AsyncGenerator[Step, None], text: TextStream, *, prompt_tokens: int
) -> AsyncGenerator[Piece, None]:
    """Yield a piece of text for each step. The steps are closed with the pieces.

    A stop string ends the generation, and the last piece says so. Raises what the generation
    failed with, and `NotReady` if the engine was closed before its end.
    """
    made = 0
    async with contextlib.aclosing(steps):
        async for step in steps:
            if step.token is None:
                raise _failure(step.finished)
            made += 1
            new, finished = text.feed(step.token.id), step.finished
            if text.stopped:
                finished = Finished(FinishReason.STOP_STRING, prompt_tokens, made)
            elif finished is not None:
                new += text.rest()
            yield Piece(new, step.token, text.is_special(step.token.id), finished)
            if finished is not None:
                return


def _failure(finished: Finished | None) -> Exception:
    if finished is not None and finished.error is not None:
        return finished.error
    return NotReady("The service shut down before the answer was finished.")
