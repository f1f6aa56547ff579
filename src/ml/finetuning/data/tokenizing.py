"""From rendered texts to token ids and labels, by the character offsets of the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from typing import Any

from ml.errors import InvalidInput
from ml.finetuning.data.boundaries import Boundaries
from ml.finetuning.data.rendering import Rendered
from ml.finetuning.data.report import Segment, shown
from ml.models.control_tokens import ControlTokens

__all__ = ["IGNORED", "TokenisedExample", "segments", "tokenise"]

#: The label of tokens that do not count in the loss, as torch has it.
IGNORED = -100
#: Texts that are tokenised at once: many enough to be fast, few enough for their offsets' memory.
_BATCH = 512


@dataclass(frozen=True, slots=True)
class TokenisedExample:
    """What the trainer reads of one row.

    Attributes:
        input_ids: tokens, cut at their end to the allowed length.
        labels: the same, `IGNORED` where not trained.
        full_length: tokens before the cut.
        offsets: where each kept token stands in the text, `(start, end)` in characters.
    """

    input_ids: list[int]
    labels: list[int]
    full_length: int
    offsets: Sequence[tuple[int, int]]

    @property
    def supervised(self) -> int:
        """Tokens in the loss: the first one is never predicted."""
        return len(self.labels) - 1 - self.labels[1:].count(IGNORED) if self.labels else 0

    @property
    def truncated(self) -> bool:
        """Whether it was cut."""
        return self.full_length > len(self.input_ids)


def tokenise(
    controls: ControlTokens, texts: Sequence[Rendered], max_length: int
) -> Iterator[TokenisedExample]:
    """Yield the tokens of each text, in order; a fast tokenizer does it in batches.

    From the last special token before it to the answer, the tokens are those of the prompt in
    serving. Raises `InvalidInput` for tokenizers without offsets.
    """
    if not controls.tokenizer(aliased=False).is_fast:
        raise InvalidInput("model_name: its tokenizer does not tell where tokens stand in the text")
    known: dict[bool, tuple[Any, Boundaries]] = {}
    for (aliased, _), group in groupby(texts, key=lambda text: (text.aliased, text.adds_special)):
        if aliased not in known:
            tokenizer = controls.tokenizer(aliased)
            known[aliased] = tokenizer, Boundaries(tokenizer)
        while batch := list(islice(group, _BATCH)):
            yield from _tokenise_batch(*known[aliased], batch, max_length)


def _tokenise_batch(
    tokenizer: Any, boundaries: Boundaries, batch: Sequence[Rendered], max_length: int
) -> Iterator[TokenisedExample]:
    adds_special = batch[0].adds_special
    encoded = tokenizer(
        [text.text for text in batch],
        add_special_tokens=adds_special,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    for text, ids, offsets in zip(
        batch, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        if not adds_special:
            begins = [begin for begin, _ in text.trained]
            ids, offsets = boundaries.apply(text.text, ids, offsets, begins)
        kept, places = ids[:max_length], offsets[:max_length]
        yield TokenisedExample(kept, _labels(kept, places, text.trained), len(ids), places)


def _labels(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], trained: Sequence[tuple[int, int]]
) -> list[int]:
    """Return the labels. Some tokenizers tell a space's place as its end: `start == stop`."""
    labels = [IGNORED] * len(ids)
    spans = iter(trained)
    begin, end = next(spans, (0, 0))
    for index, (start, stop) in enumerate(offsets):
        while stop > end:
            following = next(spans, None)
            if following is None:
                return labels
            begin, end = following
        if start >= begin and stop > begin:
            labels[index] = ids[index]
    return labels


def segments(controls: ControlTokens, text: str, example: TokenisedExample) -> list[Segment]:
    """Return the kept part of a text in pieces, each marked as trained or not."""
    flags = [label != IGNORED for label in example.labels]
    changes = [index for index, (a, b) in enumerate(pairwise(flags), start=1) if a != b]
    starts = [0, *changes]
    places = [0, *(example.offsets[index][0] for index in changes)]
    end = example.offsets[-1][1] if example.truncated else len(text)
    return [
        Segment(text=shown(controls.shown(text[place:until])), trained=flags[start])
        for start, place, until in zip(starts, places, [*places[1:], end], strict=True)
    ]
