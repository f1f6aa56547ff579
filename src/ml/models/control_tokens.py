"""Texts of users that never become control tokens.

A chat template writes control tokens such as `<|im_end|>` as text, and a tokenizer cannot tell
those from the same characters in a message: whoever writes them would end the turn and begin
another. So where a message may spell one, the conversation is rendered with marks in place of the
characters that such names need; a name that stands in the text without a mark is the template's.
It gets an alias there, a random text that a second tokenizer has in place of the name. To that
tokenizer what users spell is plain text, with the tokens that any text has.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from ml.errors import InvalidInput

__all__ = ["Asked", "Chat", "ControlTokens", "texts_in"]

#: Messages, and whether the prompt for an answer follows them.
Asked = tuple[Sequence[Mapping[str, str]], bool]
#: What a text is made of: `Asked`, or a tuple with further sequences of mappings, such as tools.
A = TypeVar("A", bound=tuple[Any, ...])
#: Characters that no script has.
_FOR_MARKS, _FOR_ALIASES = range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)
_ALIAS_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Chat:
    """Rendered conversations; `aliased` is whether control tokens stand in them by their aliases.

    `ControlTokens.tokenizer(aliased)` reads them.
    """

    texts: list[str]
    aliased: bool


class ControlTokens:
    """The control tokens of one tokenizer: those that it calls special."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self._aliases = {token.content: _alias() for token in added if token.special}
        self._names_by_alias = {alias: name for name, alias in self._aliases.items()}
        self._needed = {_needed_character(name) for name in self._aliases}
        self._any_added = _one_of(token.content for token in added)
        self._name = _one_of(self._aliases)
        self._words = _one_of(filter(str.isidentifier, self._aliases))
        self._normalize = _normalizer(tokenizer, added)
        self._normalized_name = _one_of({self._normalize(name) for name in self._aliases})

    def render(self, asked: Sequence[A], render: Callable[[Sequence[A]], list[str]]) -> Chat:
        """Return the conversations' texts, in which only the template's control tokens are such.

        All texts in the messages, however deep, are users', but for the roles. Raises
        `InvalidInput` for a key of theirs that is written like a template's own and spells one.
        """
        contents = list(texts_in(asked))
        if any(self._words.search(key) for key in _keys_in(asked) if key.isidentifier()):
            raise _unreadable()
        if not any(self._may_spell(content) for content in contents):
            return Chat(render(asked), aliased=False)
        plain = render(asked)
        marks = _marks(self._needed, contents)
        texts = render(_changed(asked, lambda content: content.translate(marks)))
        if [_unmarked(text, marks) for text in texts] != plain:
            # The template looks for something in the contents: leave it what spells no name.
            texts = render(_changed(asked, lambda content: self._with_marked_names(content, marks)))
            plain = [_unmarked(text, marks) for text in texts]
        aliased = [_unmarked(self._with_aliases(text), marks) for text in texts]
        if any(self.spells(text) for text in aliased):
            return Chat(aliased, aliased=True)
        return Chat(plain, aliased=False)

    def spells(self, text: str) -> bool:
        """Return whether the tokenizer would see the name of a control token in a text."""
        return bool(self._name.search(text) or self._normalized_name.search(self._normalize(text)))

    def tokenizer(self, aliased: bool) -> Any:
        """Return the tokenizer for texts with the names of control tokens, or with aliases.

        Raises `InvalidInput` for a tokenizer that knows no aliases.
        """
        return self._aliased_tokenizer if aliased else self._tokenizer

    def text_tokenizer(self, text: str) -> Any:
        """Return the tokenizer to which a text is nothing but text."""
        return self.tokenizer(aliased=self.spells(text))

    def written(self, name: str, aliased: bool) -> str:
        """Return how a control token is written; "" and other texts stay as they are."""
        return self._aliases.get(name, name) if aliased else name

    def names(self, aliased: bool) -> tuple[str, ...]:
        """Return how all control tokens are written."""
        return tuple(self._aliases.values() if aliased else self._aliases)

    def shown(self, text: str) -> str:
        """Return a text with names in place of aliases."""
        for alias, name in self._names_by_alias.items():
            text = text.replace(alias, name)
        return text

    def _may_spell(self, content: str) -> bool:
        return not self._needed.isdisjoint(content) or not self._needed.isdisjoint(
            self._normalize(content)
        )

    def _with_marked_names(self, content: str, marks: dict[int, str]) -> str:
        return self._name.sub(lambda found: found[0].translate(marks), content)

    def _with_aliases(self, text: str) -> str:
        return self._any_added.sub(lambda found: self._aliases.get(found[0], found[0]), text)

    @cached_property
    def _aliased_tokenizer(self) -> Any:
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer.from_str(_renamed(self._tokenizer, self._aliases))
        ids = {
            alias: self._tokenizer.convert_tokens_to_ids(name)
            for name, alias in self._aliases.items()
        }
        if any(backend.token_to_id(alias) != id_ for alias, id_ in ids.items()):
            raise _unreadable()
        return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)


def _alias() -> str:
    return "".join(chr(secrets.choice(_FOR_ALIASES)) for _ in range(_ALIAS_LENGTH))


def _needed_character(name: str) -> str:
    """Return a character without which nobody can spell the name, a rare one if there is any."""
    return next((one for one in name if not (one.isalnum() or one.isspace())), name[0])


def _one_of(names: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds the names as tokenizers do: the first, and the longest there."""
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _normalizer(tokenizer: Any, added: Iterable[Any]) -> Callable[[str], str]:
    """Return what a text goes through before control tokens are looked for in it, if anything."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is None:
        return str
    if not any(token.special and token.normalized for token in added):
        return str
    normalize: Callable[[str], str] = backend.normalizer.normalize_str
    return normalize


def _marks(characters: Iterable[str], contents: Sequence[str]) -> dict[int, str]:
    """Return private characters for these, such as no content has."""
    used = set().union(*contents)
    free = (chr(code) for code in _FOR_MARKS if chr(code) not in used)
    return {ord(character): next(free) for character in characters}


def _unmarked(text: str, marks: dict[int, str]) -> str:
    return text.translate({ord(mark): code for code, mark in marks.items()})


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in nested lists, tuples and mappings, the names in these too."""
    match value:
        case str():
            yield value
        case Mapping():
            for name, inner in value.items():
                yield name
                yield from texts_in(inner)
        case list() | tuple():
            for inner in value:
                yield from texts_in(inner)


def _keys_in(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            yield from value
            for inner in value.values():
                yield from _keys_in(inner)
        case list() | tuple():
            for inner in value:
                yield from _keys_in(inner)


def _changed(asked: Sequence[A], change: Callable[[str], str]) -> list[A]:
    return [tuple(_changed_part(part, change) for part in one) for one in asked]  # type: ignore[misc]


def _changed_part(part: Any, change: Callable[[str], str]) -> Any:
    if not isinstance(part, list | tuple):
        return part
    return [
        {name: text if name == "role" else _deeply(text, change) for name, text in entry.items()}
        for entry in part
    ]


def _deeply(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case Mapping():
            # A template looks for keys of its own, which have this form.
            return {
                name if name.isidentifier() else change(name): _deeply(inner, change)
                for name, inner in value.items()
            }
        case list() | tuple():
            return [_deeply(inner, change) for inner in value]
    return value


def _renamed(tokenizer: Any, aliases: Mapping[str, str]) -> str:
    """Return a tokenizer's JSON with the aliases for names, also in its vocabulary."""
    if not tokenizer.is_fast:
        raise _unreadable()
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["truncation"] = data["padding"] = None
    for token in data["added_tokens"]:
        token["content"] = aliases.get(token["content"], token["content"])
    model = data["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {aliases.get(token, token): id_ for token, id_ in vocabulary.items()}
    else:
        model["vocab"] = [[aliases.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in aliases:
        model["unk_token"] = aliases[model["unk_token"]]
    if "merges" in model:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [
            pair for pair in pairs if aliases.keys().isdisjoint({*pair, "".join(pair)})
        ]
    return json.dumps(data)


def _unreadable() -> InvalidInput:
    return InvalidInput(
        "the text holds the name of a control token, which this model's tokenizer cannot read as "
        "plain text; write it otherwise"
    )
