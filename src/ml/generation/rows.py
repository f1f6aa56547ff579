"""Who holds which row of the cache, and what former requests left in the others.

The keys and values of a token depend on the tokens before it and on the adapter alone. So a prompt
that begins like what a row holds, such as with the same system prompt or the conversation so far,
starts from a copy of that row.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ml.generation.slots import SlotCache

__all__ = ["Row", "Rows", "common_prefix"]

#: Shorter beginnings are read as fast as they are found and copied.
_LEAST_PREFIX = 8


@dataclass(eq=False, slots=True)
class Row:
    """The tokens whose keys and values are in a row, and the adapter that they were made with."""

    tokens: list[int] = field(default_factory=list)
    adapter: object = None
    used: int = 0


class Rows:
    """Keeps the rows in use in `[0, n)`, so that a step runs on one block of memory."""

    def __init__(self, cache: SlotCache, *, reuse_prefixes: bool = True) -> None:
        self._cache = cache
        self.reuses_prefixes = reuse_prefixes
        self._rows = [Row() for _ in range(cache.slots)]
        self._clock = itertools.count(1)

    def take(self, number: int, prompt: list[int], adapter: object) -> Row:
        """Return row `number`, the first that is free, with as much of a prompt as is known.

        At least the prompt's last token is left to read.
        """
        known = self._fill(number, prompt, adapter) if self.reuses_prefixes else 0
        self._rows[number] = Row(prompt[:known], adapter, next(self._clock))
        return self._rows[number]

    def _fill(self, number: int, prompt: list[int], adapter: object) -> int:
        """Put what is known of a prompt into a free row; return how many tokens that is.

        The row's former tokens stay known, in the free row that was not used for longest.
        """
        place, known = self._longest_prefix(prompt, adapter)
        oldest = min(range(number, len(self._rows)), key=lambda free: self._rows[free].used)
        goes_on = 2 * known > len(self._rows[place].tokens)
        if known and place >= number and (goes_on or place == oldest):
            self.swap(number, place)
            return known
        former = self._rows[number]
        if oldest != number:
            self._copy(number, oldest, len(former.tokens))
            self._rows[oldest] = former
        if place != number:
            self._copy(place, number, known)
        return known

    def known(self, prompt: list[int], adapter: object) -> int:
        """Return how much of a prompt need not be read."""
        return self._longest_prefix(prompt, adapter)[1]

    def swap(self, first: int, second: int) -> None:
        """Let two rows change places."""
        if first != second:
            a, b = self._rows[first], self._rows[second]
            self._cache.swap(first, second, max(len(a.tokens), len(b.tokens)))
            self._rows[first], self._rows[second] = b, a

    def forget(self) -> None:
        """Trust nothing that the rows hold, after a step that failed in the middle."""
        self._rows = [Row() for _ in self._rows]

    def _longest_prefix(self, prompt: list[int], adapter: object) -> tuple[int, int]:
        """Return the row that begins most like a prompt, and how many tokens they share."""
        place, known = 0, 0
        for number, row in enumerate(self._rows):
            common = common_prefix(row.tokens, prompt) if row.adapter is adapter else 0
            if common > known:
                place, known = number, common
        known = min(known, len(prompt) - 1)
        return (place, known) if known >= _LEAST_PREFIX else (place, 0)

    def _copy(self, source: int, target: int, length: int) -> None:
        if length:
            self._cache.copy(source, target, length)


def common_prefix(first: list[int], second: list[int]) -> int:
    """Return how many tokens at the beginning two texts share."""
    for number, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return number
    return min(len(first), len(second))
