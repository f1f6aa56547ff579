"""A row as what it means: a conversation, or a plain text."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Conversation", "Meaning", "PlainText", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; `trained` is whether the model learns to write it."""

    role: str
    content: str
    trained: bool

    def message(self) -> dict[str, str]:
        """Return it as chat templates take it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first; at least one is trained, and the last one is the assistant's."""

    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text that the model learns to go on with, from its beginning."""

    text: str


Meaning = Conversation | PlainText
