"""From rows to examples for the trainer, with a report on what was found on the way."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput
from ml.finetuning.data.chat_template import open_chat_template
from ml.finetuning.data.example_file import Example, open_examples, write_examples
from ml.finetuning.data.found import Found, Tell
from ml.finetuning.data.memory import ModelShape
from ml.finetuning.data.rendering import Rendered, Renderer
from ml.finetuning.data.report import DataReport, Segment, UnusableData
from ml.finetuning.data.row import RowSource
from ml.finetuning.data.tokenizing import TokenisedExample, segments, tokenise
from ml.finetuning.request import FinetuningRequest
from ml.models.control_tokens import ControlTokens

__all__ = ["Example", "TrainingData", "examine", "prepare"]

#: Texts that are tokenised at once, and their characters: what is in memory of a data set.
_BATCH_TEXTS, _BATCH_CHARACTERS = 512, 1 << 22


@dataclass(frozen=True)
class TrainingData:
    """Examples in the order of their rows, and the report on them.

    The examples are a list of a look's, or a `Dataset` of `datasets`: `len`, an index and
    iteration is what both have.
    """

    train: Any
    validation: Any
    report: DataReport


def prepare(
    source: RowSource,
    request: FinetuningRequest,
    tokenizer: Any,
    shape: ModelShape | None = None,
    *,
    file: Path,
    tell: Tell = lambda rows, dropped: None,
) -> TrainingData:
    """Return what to train on: the same for the same rows, request and tokenizer.

    A few rows at a time are in memory; the examples are in `file`. `tell` is called with the rows
    so far and how many of them are left out, and may raise to end it. With `shape` the report has
    a memory estimate. Raises `UnusableData` with the report if nothing can be trained on the rows:
    none is usable, more than half are not, or no token is trained.
    """
    found = Found(source, request, tell)
    read = _read(found, request, tokenizer, ControlTokens(tokenizer))
    write_examples(file, (_example(tokens) for _, tokens, is_usable in read if is_usable))
    examples = open_examples(file)
    train, validation = _split(len(examples), request.validation_split, request.seed)
    report = found.report(len(train), len(validation), shape)
    if report.refusal is not None:
        raise UnusableData(report.refusal, report=report)
    if not validation:
        return TrainingData(examples, [], report)
    return TrainingData(
        examples.select(train, keep_in_memory=True),
        examples.select(validation, keep_in_memory=True),
        report,
    )


def examine(
    source: RowSource, request: FinetuningRequest, tokenizer: Any, shape: ModelShape | None = None
) -> TrainingData:
    """Return the same of a few rows, in memory, with samples, and with the refusal in the report
    instead of an error."""
    found = Found(source, request, lambda rows, dropped: None)
    controls = ControlTokens(tokenizer)
    everything = list(_read(found, request, tokenizer, controls))
    examples = [_example(tokens) for _, tokens, is_usable in everything if is_usable]
    train, validation = _split(len(examples), request.validation_split, request.seed)
    samples = _samples(controls, everything)
    report = found.report(len(train), len(validation), shape, samples, found.first_rows)
    return TrainingData(
        [examples[place] for place in train], [examples[place] for place in validation], report
    )


#: A row's text, its tokens, and whether there is anything to learn from them.
_Read = tuple[Rendered, TokenisedExample, bool]


def _read(
    found: Found, request: FinetuningRequest, tokenizer: Any, controls: ControlTokens
) -> Iterator[_Read]:
    with open_chat_template(tokenizer) as template:
        if request.chat_template is not None and template is not None:
            template.check()
        renderer = Renderer(
            controls,
            template,
            eos=tokenizer.eos_token or "",
            completion_only=request.completion_only,
        )
        for batch in _batches(found.rendered(renderer)):
            texts = [text for _, text in batch]
            tokenised = tokenise(controls, texts, request.max_seq_length)
            for (line, text), tokens in zip(batch, tokenised, strict=True):
                yield text, tokens, found.count(line, tokens)


def _batches(
    rendered: Iterable[tuple[int, Rendered]],
) -> Iterator[list[tuple[int, Rendered]]]:
    batch: list[tuple[int, Rendered]] = []
    characters = 0
    for line, text in rendered:
        batch.append((line, text))
        characters += len(text.text)
        if len(batch) == _BATCH_TEXTS or characters > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _example(tokens: TokenisedExample) -> Example:
    return {"input_ids": tokens.input_ids, "labels": tokens.labels}


def _samples(controls: ControlTokens, everything: list[_Read]) -> list[list[Segment]]:
    """Return the first text, the middle and the last, in pieces."""
    number = len(everything)
    chosen = [everything[place] for place in sorted({0, number // 2, number - 1}) if number]
    return [segments(controls, text.text, tokens) for text, tokens, _ in chosen if tokens.input_ids]


def _split(number: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the places of training and validation examples, chosen by the seed, in order."""
    if not share or not number:
        return list(range(number)), []
    if number < 2:
        raise InvalidInput("validation_split: a single example cannot be split")
    held = min(max(round(number * share), 1), number - 1)
    chosen = set(random.Random(seed).sample(range(number), held))
    return [place for place in range(number) if place not in chosen], sorted(chosen)
