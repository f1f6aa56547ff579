"""Prompts tokenised as serving does it, although an answer follows them.

A tokenizer may split the end of a prompt otherwise when text follows: two line breaks are one
token at the end of a text and two before a word. In serving a prompt ends where the answer begins,
so the model has to learn to answer after those tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

__all__ = ["Boundaries", "Offsets"]

#: Where each token stands in the text: `(start, end)` in characters.
Offsets = list[tuple[int, int]]
_REMEMBERED = 1000


class Boundaries:
    """Puts a token boundary at the beginning of each answer.

    Only what stands between the last special token and the answer is tokenised again, which is
    the same few words for all rows.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self._special = {id_ for id_, token in added if token.special}
        self._known: dict[str, tuple[list[int], Offsets]] = {}

    def apply(
        self, text: str, ids: list[int], offsets: Offsets, begins: Sequence[int]
    ) -> tuple[list[int], Offsets]:
        """Return the tokens of a text with the answers that begin at these characters."""
        for begin in reversed(begins):  # so that the places of those before stay as they are
            if begin > 0:
                ids, offsets = self._cut(text, ids, offsets, begin)
        return ids, offsets

    def _cut(
        self, text: str, ids: list[int], offsets: Offsets, begin: int
    ) -> tuple[list[int], Offsets]:
        after = bisect_left(offsets, (begin, begin + 1))
        first = max(after - 1, 0)
        while first > 0 and ids[first] not in self._special:
            first -= 1
        start, end = offsets[first][0], max(begin, offsets[max(after - 1, 0)][1])
        new_ids, new_offsets = self._encode(text[start:begin], start)
        if end > begin:  # a token reaches from the prompt into the answer
            rest_ids, rest_offsets = self._encode(text[begin:end], begin)
            new_ids, new_offsets = new_ids + rest_ids, new_offsets + rest_offsets
        if new_ids == ids[first:after]:
            return ids, offsets
        return (
            [*ids[:first], *new_ids, *ids[after:]],
            [*offsets[:first], *new_offsets, *offsets[after:]],
        )

    def _encode(self, text: str, start: int) -> tuple[list[int], Offsets]:
        found = self._known.get(text)
        if found is None:
            encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            found = encoded["input_ids"], encoded["offset_mapping"]
            if len(self._known) < _REMEMBERED:
                self._known[text] = found
        ids, places = found
        return ids, [(begin + start, end + start) for begin, end in places]
