"""From what a row means to the text that the model reads, and which parts of it are trained.

Conversations are rendered by the tokenizer's own chat template, as serving does it
(`LLMInferenceWorkflow.chat`). Where an answer stands is found by rendering the conversation's
beginnings: up to before the answer with the generation prompt, and up to its end without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ml.finetuning.data.chat_template import ChatTemplate
from ml.finetuning.data.example import Conversation, Meaning, PlainText, Turn
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault

__all__ = ["Rendered", "Renderer"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text and the spans of it, `(start, end)` in characters, that are trained.

    `adds_special` is whether the tokenizer puts its own special tokens around it, as it does for
    texts that no chat template made. `left_out` are the roles of turns that the template does not
    show.
    """

    text: str
    trained: tuple[tuple[int, int], ...]
    adds_special: bool = False
    left_out: frozenset[str] = frozenset()


class Renderer:
    """Renders by one tokenizer's chat template; `completion_only` false trains everything."""

    def __init__(
        self, tokenizer: Any, template: ChatTemplate | None, *, completion_only: bool = True
    ) -> None:
        self._template = template
        self._completion_only = completion_only
        self._eos = tokenizer.eos_token or ""
        added = tokenizer.added_tokens_decoder.values()
        specials = {str(token) for token in added if token.special}
        self._ends = tuple(specials | set(tokenizer.all_special_tokens))

    def render(self, meaning: Meaning) -> Rendered:
        """Return the text. Raises `RowFault` where the chat template cannot show the answers."""
        if isinstance(meaning, PlainText):
            return self._whole(meaning.text + self._eos, adds_special=True)
        if self._template is None:
            rendered = self._without_template(meaning)
            whole = self._whole(rendered.text, adds_special=True)
            return rendered if self._completion_only else whole
        return self._with_template(self._template, meaning.turns)

    def _with_template(self, template: ChatTemplate, turns: tuple[Turn, ...]) -> Rendered:
        trained = [index for index, turn in enumerate(turns) if turn.trained]
        if trained[0] == 0 and self._completion_only:
            message = "the conversation begins with an answer"
            raise RowFault(Rule.ROLE, "", message, "begin with a turn of the user")
        messages = [turn.message() for turn in turns]
        asked = [(messages, False)]
        if self._completion_only:
            for index in trained:
                asked += [(messages[:index], True), (messages[: index + 1], False)]
        text, *parts = template.render(asked)
        left_out = _not_shown(text, turns)
        if not text.rstrip().endswith(self._ends):
            text += self._eos  # else the model would never learn to end its turn
        if not self._completion_only:
            return replace(self._whole(text, adds_special=False), left_out=left_out)
        spans = []
        for place, index in enumerate(trained):
            before, through = parts[2 * place : 2 * place + 2]
            through = text if index == len(turns) - 1 else through
            spans.append(self._span(text, before, through, index))
        return Rendered(text, tuple(spans), left_out=left_out)

    def _whole(self, text: str, *, adds_special: bool) -> Rendered:
        return Rendered(text, ((0, len(text)),), adds_special)

    def _span(self, text: str, before: str, through: str, index: int) -> tuple[int, int]:
        """Return where an answer stands: from its first character to the token that ends the turn.

        The space behind that token is not generated in serving, so it is not trained.
        """
        if not (text.startswith(through) and through.startswith(before)):
            raise _broken_template(index)
        answer = through[len(before) :].rstrip()
        if answer.endswith(self._ends):
            return len(before), len(before) + len(answer)
        return len(before), len(through)

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


def _not_shown(text: str, turns: tuple[Turn, ...]) -> frozenset[str]:
    """Return the roles of turns that a text leaves out. Raises `RowFault` if the answer is."""
    shown = _without_spaces(text)
    *earlier, last = turns
    if _without_spaces(last.content) not in shown:
        message = "the chat template does not show the answer's text"
        raise RowFault(Rule.TEMPLATE, "", message, "give another chat_template")
    return frozenset(turn.role for turn in earlier if _without_spaces(turn.content) not in shown)


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _broken_template(index: int) -> RowFault:
    message = (
        f"the chat template writes the conversation's beginning otherwise once turn {index + 1} "
        "and what follows it are there, so it does not show where the answer stands"
    )
    hint = "give one answer a row, another chat_template, or completion_only false"
    return RowFault(Rule.TEMPLATE, "", message, hint)
