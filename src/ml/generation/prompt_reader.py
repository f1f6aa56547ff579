"""Texts and conversations as a model's tokens, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from ml.errors import InvalidInput
from ml.generation.request import PromptTooLong
from ml.generation.token_texts import TokenTexts
from ml.generation.tool_format import tool_format_of
from ml.generation.tools import ToolWish
from ml.models.control_tokens import ControlTokens, texts_in

__all__ = ["PromptReader"]

#: Messages and tools as a chat template reads them.
_Asked = tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]


class PromptReader:
    """Reads for a model with `vocabulary` token ids, whose prompts have less than `max_length`.

    Raises `PromptTooLong` for a text that surely has more, before its tokens are made, which take
    a hundred times its memory.
    """

    def __init__(self, tokenizer: Any, *, vocabulary: int, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary, self._max_length = vocabulary, max_length
        self._controls = ControlTokens(tokenizer)
        #: What single tokens stand for.
        self.token_texts = TokenTexts(tokenizer)
        #: How the model is told of tools, and calls them.
        self.tool_format = tool_format_of(tokenizer.chat_template)
        #: A text of more characters has too many tokens, whichever they are.
        self._longest_text = max_length * max(map(len, tokenizer.get_vocab()))

    def conversation(self, messages: Sequence[Mapping[str, Any]], tools: ToolWish) -> list[int]:
        """Return the tokens of a conversation's prompt; nothing in it becomes a control token."""
        messages = self.tool_format.messages(messages, tools)
        told = [tool.for_template() for tool in tools.tools] if self.tool_format.native else []
        self._require_countable(sum(map(len, texts_in([messages, told]))))
        if self._tokenizer.chat_template is None:
            text = "\n".join(message["content"] for message in messages)
            return list(self._controls.text_tokenizer(text)(text).input_ids)
        try:
            chat = self._controls.render([(messages, told)], self._render)
        except TemplateError as error:  # such as roles that a template does not know
            raise InvalidInput(f"the model's chat template refuses this: {error}") from error
        read = self._controls.tokenizer(chat.aliased)
        return list(read(chat.texts[0], add_special_tokens=False).input_ids)

    def _render(self, asked: Sequence[_Asked]) -> list[str]:
        apply = self._tokenizer.apply_chat_template
        return [
            apply(messages, tools=tools or None, tokenize=False, add_generation_prompt=True)
            for messages, tools in asked
        ]

    def text(self, text: str, *, truncate: int | None = None) -> list[int]:
        """Return the tokens of a text, in which the name of a control token is one.

        `truncate` keeps only so many of the last.
        """
        if truncate:
            text = text[-self._longest_text :]
        self._require_countable(len(text))
        ids: list[int] = self._tokenizer(text).input_ids
        return ids[-truncate:] if truncate else ids

    def places(
        self, text: str, *, add_special_tokens: bool = True
    ) -> list[tuple[int, tuple[int, int]]]:
        """Return the tokens of a text with where each begins and ends in it."""
        self._require_countable(len(text))
        read = self._tokenizer(
            text, add_special_tokens=add_special_tokens, return_offsets_mapping=True
        )
        return list(zip(read.input_ids, read.offset_mapping, strict=True))

    def text_of(self, ids: list[int]) -> str:
        """Return the text of tokens, control tokens by their names."""
        self.require_known("tokens", ids)
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def require_known(self, name: str, ids: Iterable[int]) -> None:
        """Raise `InvalidInput`, naming the field, for ids that are none of the model's."""
        for token_id in ids:
            if not 0 <= token_id < self._vocabulary:
                raise InvalidInput(
                    f"{name}: {token_id} is none of the model's {self._vocabulary} token ids"
                )

    def _require_countable(self, characters: int) -> None:
        if characters > self._longest_text:
            raise PromptTooLong(f"over {self._max_length}", self._max_length)
