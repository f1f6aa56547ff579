"""From what a row means to the text that the model reads, and which parts of it are trained.

Conversations are rendered by the tokenizer's own chat template, as serving does it
(`LLMInferenceWorkflow.chat`). Where an answer stands is found by rendering the conversation's
beginnings: up to before the answer with the generation prompt, and up to its end without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from ml.finetuning.data.example import Conversation, Meaning, PlainText, Turn
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault

__all__ = ["Rendered", "Renderer"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text and the spans of it, `(start, end)` in characters, that are trained.

    `adds_special` is whether the tokenizer puts its own special tokens around it, as it does for
    texts that no chat template made.
    """

    text: str
    trained: tuple[tuple[int, int], ...]
    adds_special: bool = False


class Renderer:
    """Renders for one tokenizer; `completion_only` false trains everything."""

    def __init__(self, tokenizer: Any, *, completion_only: bool = True) -> None:
        self._tokenizer = tokenizer
        self._completion_only = completion_only
        self._eos = tokenizer.eos_token or ""
        added = tokenizer.added_tokens_decoder.values()
        specials = {str(token) for token in added if token.special}
        self._ends = tuple(specials | set(tokenizer.all_special_tokens))

    def render(self, meaning: Meaning) -> Rendered:
        """Return the text. Raises `RowFault` where the chat template cannot show the answers."""
        if isinstance(meaning, PlainText):
            return self._whole(meaning.text + self._eos, adds_special=True)
        if self._tokenizer.chat_template is None:
            rendered = self._without_template(meaning)
            whole = self._whole(rendered.text, adds_special=True)
            return rendered if self._completion_only else whole
        text = self._apply(meaning.turns)
        if not text.rstrip().endswith(self._ends):
            text += self._eos  # else the model would never learn to end its turn
        if not self._completion_only:
            return self._whole(text, adds_special=False)
        turns = meaning.turns
        trained = (index for index, turn in enumerate(turns) if turn.trained)
        return Rendered(text, tuple(self._span(text, turns, index) for index in trained))

    def _whole(self, text: str, *, adds_special: bool) -> Rendered:
        return Rendered(text, ((0, len(text)),), adds_special)

    def _span(self, text: str, turns: tuple[Turn, ...], index: int) -> tuple[int, int]:
        """Return where an answer stands: from its first character to the token that ends the turn.

        The space behind that token is not generated in serving, so it is not trained.
        """
        if index == 0:
            message = "the conversation begins with an answer"
            raise RowFault(Rule.ROLE, "", message, "begin with a turn of the user")
        before = self._apply(turns[:index], asking=True)
        is_last = index == len(turns) - 1
        through = text if is_last else self._apply(turns[: index + 1])
        if not (text.startswith(through) and through.startswith(before)):
            raise _broken_template(index)
        answer = through[len(before) :].rstrip()
        if answer.endswith(self._ends):
            return len(before), len(before) + len(answer)
        return len(before), len(through)

    def _apply(self, turns: Sequence[Turn], *, asking: bool = False) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                [turn.message() for turn in turns], tokenize=False, add_generation_prompt=asking
            )
        except (TemplateError, TypeError, ValueError) as error:
            message = f"the chat template refuses this conversation: {str(error)[:200]}"
            hint = "change the roles or their order, or give another chat_template"
            raise RowFault(Rule.TEMPLATE, "", message, hint) from error
        return str(text)

    def _without_template(self, meaning: Conversation) -> Rendered:
        """Join the turns by line breaks, as serving does for a model without a template."""
        text, spans = "", []
        for index, turn in enumerate(meaning.turns):
            start = len(text)
            text += f"\n{turn.content}" if index else turn.content
            if turn.trained:
                spans.append((start, len(text)))
        text += self._eos
        spans[-1] = (spans[-1][0], len(text))
        return Rendered(text, tuple(spans), adds_special=True)


def _broken_template(index: int) -> RowFault:
    message = (
        f"the chat template writes the conversation's beginning otherwise once turn {index + 1} "
        "and what follows it are there, so it does not show where the answer stands"
    )
    hint = "give one answer a row, another chat_template, or completion_only false"
    return RowFault(Rule.TEMPLATE, "", message, hint)
