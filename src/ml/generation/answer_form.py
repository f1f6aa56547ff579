"""What an answer has to look like; the engine allows no token that breaks it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AnswerForm", "JsonAnswer", "RegexAnswer", "Tag", "TaggedAnswer"]


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """JSON that a JSON Schema accepts; `schema` is its text, `{}` for any JSON."""

    schema: str


@dataclass(frozen=True, slots=True)
class RegexAnswer:
    """A text that a regular expression matches from its beginning to its end."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Tag:
    """What begins with `begin` goes on with JSON of a schema, and then with `end`."""

    begin: str
    schema: str
    end: str


@dataclass(frozen=True, slots=True)
class TaggedAnswer:
    """Any text, in which each `trigger` begins one of the tags: the calls of tools.

    Attributes:
        trigger: what all the tags' `begin` have in common.
        tags: what may follow it.
        required: the answer begins with a tag.
        several: another one may follow a tag.
    """

    trigger: str
    tags: tuple[Tag, ...]
    required: bool = False
    several: bool = True


AnswerForm = JsonAnswer | RegexAnswer | TaggedAnswer
