"""From what a row means to the text that the model reads, and which parts of it are trained.

Conversations are rendered by the tokenizer's own chat template, as serving does it
(`LanguageModel.chat`). Where an answer stands is found by rendering the conversation's
beginnings: up to before the answer with the generation prompt, and up to its end without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ml.finetuning.data.chat_template import ChatTemplate
from ml.finetuning.data.example import Conversation, Meaning, PlainText, Turn
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault
from ml.models.control_tokens import ControlTokens

__all__ = ["Rendered", "Renderer"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text and the spans of it, `(start, end)` in characters, that are trained.

    `adds_special` is whether the tokenizer puts its own special tokens around it, as it does for
    texts that no chat template made. `aliased` is whether control tokens stand in it by their
    aliases (`ml.models.control_tokens`), and `spells` whether the row has names of such tokens.
    `left_out` are the roles of turns that the template does not show.
    """

    text: str
    trained: tuple[tuple[int, int], ...]
    adds_special: bool = False
    aliased: bool = False
    spells: bool = False
    left_out: frozenset[str] = frozenset()


class Renderer:
    """Renders by one tokenizer's chat template; `completion_only` false trains everything."""

    def __init__(
        self,
        controls: ControlTokens,
        template: ChatTemplate | None,
        *,
        eos: str = "",
        completion_only: bool = True,
    ) -> None:
        self._controls = controls
        self._template = template
        self._eos = eos
        self._completion_only = completion_only

    def render(self, meaning: Meaning) -> Rendered:
        """Return the text. Raises `RowFault` where the chat template cannot show the answers.

        In a conversation names of control tokens are text as any other; a plain text is read as
        it is, with control tokens where it names some.
        """
        if isinstance(meaning, PlainText):
            whole = self._whole(Rendered(meaning.text + self._eos, (), adds_special=True))
            return replace(whole, spells=self._controls.spells(meaning.text))
        if self._template is None:
            rendered = self._without_template(meaning)
        else:
            rendered = self._with_template(self._template, meaning.turns)
        return rendered if self._completion_only else self._whole(rendered)

    def _whole(self, rendered: Rendered) -> Rendered:
        return replace(rendered, trained=((0, len(rendered.text)),))

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
        chat = self._controls.render(asked, template.render)
        text, *parts = chat.texts
        left_out = _not_shown(text, turns)
        ends = self._controls.names(chat.aliased)
        if not text.rstrip().endswith(ends):
            # else the model would never learn to end its turn
            text += self._controls.written(self._eos, chat.aliased)
        spans = []
        for place, index in enumerate(trained if self._completion_only else ()):
            before, through = parts[2 * place : 2 * place + 2]
            through = text if index == len(turns) - 1 else through
            spans.append(_span(text, before, through, index, ends))
        return Rendered(
            text, tuple(spans), aliased=chat.aliased, spells=chat.aliased, left_out=left_out
        )

    def _without_template(self, meaning: Conversation) -> Rendered:
        """Join the turns by line breaks, as serving does for a model without a template."""
        text, spans = "", []
        for index, turn in enumerate(meaning.turns):
            start = len(text)
            text += f"\n{turn.content}" if index else turn.content
            if turn.trained:
                spans.append((start, len(text)))
        spells = self._controls.spells(text)
        text += self._controls.written(self._eos, spells)
        spans[-1] = (spans[-1][0], len(text))
        return Rendered(text, tuple(spans), adds_special=True, aliased=spells, spells=spells)


def _span(
    text: str, before: str, through: str, index: int, ends: tuple[str, ...]
) -> tuple[int, int]:
    """Return where an answer stands: from its first character to the token that ends the turn.

    The space behind that token is not generated in serving, so it is not trained.
    """
    if not (text.startswith(through) and through.startswith(before)):
        raise _broken_template(index)
    answer = through[len(before) :].rstrip()
    if answer.endswith(ends):
        return len(before), len(before) + len(answer)
    return len(before), len(through)


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
