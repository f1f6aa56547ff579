"""The elements of a JSON array one by one, however long it is, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from ml.finetuning.data.report import UnusableData

__all__ = ["elements"]

#: The strings of a JSON text, each as one match, and the marks that structure it; a match that is
#: a quote alone begins a string whose end is not there yet.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},"]', re.DOTALL)
_SPACE = b" \t\r\n"
_CHUNK_BYTES = 1 << 20


def elements(
    file: BinaryIO, name: str, *, most_bytes: int, is_cut: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield the line and the text of each element, by the array's brackets and commas alone.

    The file may be the beginning of one (`is_cut`): its last element is then left out where it
    does not end. Raises `UnusableData` for an array that breaks off, and for an element of more
    than `most_bytes`.
    """
    scanner = _Scanner(name, most_bytes)
    wanted = _CHUNK_BYTES
    while chunk := file.read(wanted):
        scanner.add(chunk)
        yield from scanner.elements()
        if scanner.ended:
            return
        wanted = max(_CHUNK_BYTES, len(scanner.text))  # what a long string is searched again for
    if not is_cut:
        raise scanner.broken_off()


class _Scanner:
    """What is known of an array so far: the text of the element that is being read, and where."""

    def __init__(self, name: str, most_bytes: int) -> None:
        self.text = b""
        self.ended = False
        self._name = name
        self._most_bytes = most_bytes
        self._depth = 0
        self._start = 0  # of the element, in the text
        self._seen = 0  # up to where the text is searched
        self._open_string: int | None = None  # where one begins whose end is not there yet
        self._line, self._counted = 1, 0  # the line at a place of the text

    def add(self, chunk: bytes) -> None:
        """Take more text; what came before the element is forgotten."""
        self._count(self._start)
        self.text = self.text[self._start :] + chunk
        self._seen -= self._start
        self._start = self._counted = 0

    def elements(self) -> Iterator[tuple[int, bytes]]:
        """Yield the elements that end in the text."""
        self._open_string = None
        for match in _STRUCTURE.finditer(self.text, self._seen):
            self._seen = match.end()
            mark = match[0]
            if mark == b'"':
                self._open_string = self._seen = match.start()
                break
            if mark in (b"[", b"{"):
                self._depth += 1
                if self._depth == 1:
                    self._start = self._seen
            elif mark == b"," and self._depth == 1:
                yield self._element(match.start())
                self._start = self._seen
            elif mark in (b"]", b"}"):
                self._depth -= 1
                if self._depth == 0:
                    self.ended = True
                    if self.text[self._start : match.start()].strip():
                        yield self._element(match.start())
                    return
        else:
            self._seen = len(self.text)
        if len(self.text) - self._start > self._most_bytes:
            self._element(len(self.text))

    def broken_off(self) -> UnusableData:
        """Return what is wrong with an array that does not go on here."""
        if self._open_string is not None:
            self._count(self._open_string)
            return UnusableData(
                f"{self._name}, line {self._line}: a text begins here that does not end"
            )
        return UnusableData(f"{self._name}: the array that it begins with does not end")

    def _element(self, end: int) -> tuple[int, bytes]:
        text = self.text[self._start : end]
        element = text.lstrip(_SPACE)
        self._count(self._start + len(text) - len(element))
        if len(element) > self._most_bytes:
            raise UnusableData(
                f"{self._name}, line {self._line}: a row of over {self._most_bytes} bytes begins "
                "here"
            )
        return self._line, element

    def _count(self, place: int) -> None:
        self._line += self.text.count(b"\n", self._counted, place)
        self._counted = max(self._counted, place)
