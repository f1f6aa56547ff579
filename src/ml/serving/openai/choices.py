"""The answers to a request: choices that grow by pieces, told whole or as they grow."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from ml.generation.language_model import LanguageModel
from ml.generation.merging import merged
from ml.generation.request import Finished, FinishReason, Piece, Prompt, Token
from ml.generation.token_texts import TokenTexts
from ml.generation.tool_calls import CallPart, CallReader, Heard
from ml.serving.openai.logprobs import chat_logprobs, text_logprobs

__all__ = ["ChatChoice", "Choice", "TextChoice", "grow", "new_call_id"]

FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_STRING: "stop",
    FinishReason.LENGTH: "length",
}


class Choice(Protocol):
    """One answer."""

    prompt: Prompt
    finished: Finished | None

    def take(self, piece: Piece) -> None:
        """Take in a piece of the answer."""

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice."""

    def news(self, index: int) -> dict[str, Any] | None:
        """Return what is new since the last call, None if that is nothing a client sees."""


async def grow(
    model: LanguageModel, choices: Sequence[Choice]
) -> AsyncGenerator[tuple[int, Choice], None]:
    """Generate the answers; yields a choice and its index whenever it has a further piece."""
    async with contextlib.aclosing(
        merged([model.generate(choice.prompt) for choice in choices])
    ) as pieces:
        async for index, piece in pieces:
            choices[index].take(piece)
            yield index, choices[index]


def new_call_id() -> str:
    """Return a name for a call of a tool."""
    return f"call_{uuid.uuid4().hex[:24]}"


class ChatChoice:
    """The answer to a conversation: a text, and calls of tools.

    `logprobs` is how many alternatives each token has, None for no probabilities.
    """

    def __init__(self, prompt: Prompt, texts: TokenTexts, logprobs: int | None) -> None:
        self.prompt = prompt
        self.finished: Finished | None = None
        self._texts, self._logprobs = texts, logprobs
        self._reader = None if prompt.tools is None else CallReader(prompt.tools)
        self._text = ""
        self._calls: list[dict[str, Any]] = []
        self._tokens: list[Token] = []
        self._new: Heard = []
        self._told_tokens = 0
        self._begun = False

    def take(self, piece: Piece) -> None:
        """Take in a piece of the answer."""
        self._tokens.append(piece.token)
        self.finished = piece.finished
        if self._reader is None:
            self._hear([piece.text] if piece.text else [])
            return
        self._hear(self._reader.feed(piece.text))
        if piece.finished is not None:
            self._hear(self._reader.rest())

    def _hear(self, heard: Heard) -> None:
        self._new += heard
        for part in heard:
            if isinstance(part, str):
                self._text += part
                continue
            if part.name is not None:
                function = {"name": part.name, "arguments": ""}
                call = {"id": new_call_id(), "type": "function", "function": function}
                self._calls.append(call)
            self._calls[part.index]["function"]["arguments"] += part.arguments

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._text if self._text or not self._calls else None,
            "refusal": None,
        }
        if self._calls:
            message["tool_calls"] = self._calls
        return self._choice(index, {"message": message}, self._tokens)

    def news(self, index: int) -> dict[str, Any] | None:
        """Return what is new since the last call, None if that is nothing a client sees."""
        new, self._new = self._new, []
        is_first, self._begun = not self._begun, True
        if not (new or self.finished or is_first):
            return None
        delta: dict[str, Any] = {"role": "assistant"} if is_first else {}
        text = "".join(part for part in new if isinstance(part, str))
        calls = [self._news_of_call(part) for part in new if isinstance(part, CallPart)]
        if text or (is_first and not calls):
            delta["content"] = text
        if calls:
            delta["tool_calls"] = calls
        tokens, self._told_tokens = self._tokens[self._told_tokens :], len(self._tokens)
        return self._choice(index, {"delta": delta}, tokens)

    def _news_of_call(self, part: CallPart) -> dict[str, Any]:
        if part.name is None:
            return {"index": part.index, "function": {"arguments": part.arguments}}
        function = {"name": part.name, "arguments": ""}
        return {"index": part.index, **self._calls[part.index], "function": function}

    def _choice(
        self, index: int, content: dict[str, Any], tokens: Sequence[Token]
    ) -> dict[str, Any]:
        reason = None if self.finished is None else FINISH_REASONS[self.finished.reason]
        if self._calls and reason == "stop":
            reason = "tool_calls"
        logprobs = None
        if self._logprobs is not None:
            logprobs = chat_logprobs(tokens, self._texts, self._logprobs)
        return {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}


class TextChoice:
    """What a text goes on with, behind the text itself if there is an `echo` of it.

    `scored` are the tokens of the prompt behind its first, where they are asked for.
    """

    def __init__(
        self,
        prompt: Prompt,
        texts: TokenTexts,
        *,
        logprobs: bool = False,
        echo: str = "",
        scored: Sequence[Token] | None = None,
    ) -> None:
        self.prompt = prompt
        self.finished: Finished | None = None
        self._texts, self._logprobs = texts, logprobs
        self._text = echo
        self._first = None if scored is None else prompt.ids[0]
        self._tokens = list(scored or ())
        self._made = len(self._tokens)
        self._told_text = self._told_tokens = 0
        self._begun = False

    def take(self, piece: Piece) -> None:
        """Take in a piece of the answer."""
        self._tokens.append(piece.token)
        self._text += piece.text
        self.finished = piece.finished

    @property
    def mean_logprob(self) -> float:
        """How likely the answer's tokens are."""
        made = self._tokens[self._made :]
        return sum(token.logprob for token in made) / max(len(made), 1)

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice."""
        self._told_text = self._told_tokens = 0
        self._begun = False
        return self._told(index)

    def news(self, index: int) -> dict[str, Any] | None:
        """Return what is new since the last call, None if that is nothing a client sees."""
        if len(self._text) == self._told_text and not self.finished and self._begun:
            return None
        return self._told(index)

    def _told(self, index: int) -> dict[str, Any]:
        text, offset = self._text[self._told_text :], self._told_text
        tokens = self._tokens[self._told_tokens :]
        first = None if self._begun else self._first
        self._told_text, self._told_tokens, self._begun = len(self._text), len(self._tokens), True
        reason = None if self.finished is None else FINISH_REASONS[self.finished.reason]
        logprobs = None
        if self._logprobs:
            logprobs = text_logprobs(tokens, self._texts, offset, first=first)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
