"""Calls of tools, read from an answer while it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ml.generation.text import overlap
from ml.generation.tool_format import ToolUse

__all__ = ["CallPart", "CallReader", "Heard"]


@dataclass(frozen=True, slots=True)
class CallPart:
    """A piece of the call number `index`: the first has the tool's name, the others arguments."""

    index: int
    name: str | None
    arguments: str


#: What a piece of an answer says: text and parts of calls, in order.
Heard = list[str | CallPart]


class CallReader:
    """Tells the calls in an answer from the text around them, piece by piece.

    Space next to a call is no part of the text. Arguments come as the model writes them; the
    answer's form sees to it that they are JSON.
    """

    def __init__(self, use: ToolUse) -> None:
        self._form = use.form
        self._names = dict(zip((tag.begin for tag in use.form.tags), use.names, strict=True))
        self._ends = {tag.begin: tag.end for tag in use.form.tags}
        self._held = ""
        #: What is left out if a call follows it.
        self._space = ""
        self._end = ""
        self._state: Callable[[Heard], bool] = self._read_text
        self._object = _ObjectScanner()
        self.made = 0

    def feed(self, text: str) -> Heard:
        """Return what is known after more text came."""
        self._held += text
        heard: Heard = []
        while self._held and self._state(heard):
            pass
        return heard

    def rest(self) -> Heard:
        """Return what was held back, when no more text comes."""
        held, self._held = self._held, ""
        if not held or self._state == self._skip_end:
            return []
        if self._form.required and not self.made:
            return []  # the beginning of a call that was cut off
        if self._state == self._read_arguments:
            return [CallPart(self.made - 1, None, held)]
        if self._state == self._read_begin:
            held = self._space + held
        return [held] if held.strip() or not self.made else []

    # Each state takes what it can from what is held, and returns whether the next one may go on.

    def _read_text(self, heard: Heard) -> bool:
        before, trigger, _ = self._held.partition(self._form.trigger)
        if trigger:
            text = before.rstrip()
            self._say(text, heard)
            self._space, self._held = before[len(text) :], self._held[len(before) :]
            self._state = self._read_begin
            return True
        keep = overlap(self._held, self._form.trigger)
        text = self._held[: len(self._held) - keep].rstrip()
        self._say(text, heard)
        self._held = self._held[len(text) :]
        return False

    def _say(self, text: str, heard: Heard) -> None:
        if text:
            heard.append(text)

    def _read_begin(self, heard: Heard) -> bool:
        for begin, name in self._names.items():
            if self._held.startswith(begin):
                heard.append(CallPart(self.made, name, ""))
                self.made += 1
                self._held, self._end = self._held[len(begin) :], self._ends[begin]
                self._object = _ObjectScanner()
                self._state = self._read_arguments
                return True
        if any(begin.startswith(self._held) for begin in self._names):
            return False
        heard.append(self._space + self._held[0])  # no call after all
        self._held = self._held[1:]
        self._state = self._read_text
        return True

    def _read_arguments(self, heard: Heard) -> bool:
        length = self._object.scan(self._held)
        arguments, self._held = self._held[:length], self._held[length:]
        if arguments:
            heard.append(CallPart(self.made - 1, None, arguments))
        if self._object.ended:
            self._state = self._skip_end
        return self._object.ended

    def _skip_end(self, heard: Heard) -> bool:
        if len(self._held) < len(self._end):
            return False
        self._held = self._held.removeprefix(self._end)
        self._state = self._after_call
        return True

    def _after_call(self, heard: Heard) -> bool:
        self._held = self._held.lstrip()
        self._state = self._read_text if self._held else self._after_call
        return bool(self._held)


class _ObjectScanner:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self.ended = False

    def scan(self, text: str) -> int:
        """Return how many characters of the text belong to the object."""
        for number, character in enumerate(text, 1):
            if self._in_text:
                self._read_in_text(character)
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.ended = True
                    return number
        return len(text)

    def _read_in_text(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_text = False
