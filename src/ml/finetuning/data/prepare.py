"""From rows to examples for the trainer, with a report on what was found on the way."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml.errors import InvalidInput
from ml.finetuning.data.chat_template import open_chat_template
from ml.finetuning.data.formats import DataFormat, detect_format, no_format, rename_columns
from ml.finetuning.data.memory import ModelShape, estimate_memory
from ml.finetuning.data.rendering import Rendered, Renderer
from ml.finetuning.data.report import DataReport, Fault, Rule, Segment, TokenCounts, UnusableData
from ml.finetuning.data.row import RowFault, RowSource
from ml.finetuning.data.tokenizing import TokenisedExample, segments, tokenise
from ml.finetuning.request import FinetuningRequest
from ml.models.control_tokens import ControlTokens

__all__ = ["Example", "TrainingData", "examine", "prepare"]

#: `input_ids` and `labels`, as the trainer takes them.
Example = dict[str, list[int]]
_SHOWN_FAULTS = 20
_SHOWN_SAMPLES = 3
#: A larger share of unusable rows is a wrong file or a wrong column_map, not a few bad rows.
_MOST_UNUSABLE = 0.5


@dataclass(frozen=True)
class TrainingData:
    """Examples in the order of their rows, and the report on them."""

    train: list[Example]
    validation: list[Example]
    report: DataReport


def prepare(
    source: RowSource, request: FinetuningRequest, tokenizer: Any, shape: ModelShape | None = None
) -> TrainingData:
    """Return what to train on: the same for the same rows, request and tokenizer.

    With `shape` the report has a memory estimate. Raises `UnusableData` with the report if nothing
    can be trained on the rows: none is usable, more than half are not, or no token is trained.
    """
    data = examine(source, request, tokenizer, shape)
    if data.report.refusal is not None:
        raise UnusableData(data.report.refusal, report=data.report)
    return data


def examine(
    source: RowSource, request: FinetuningRequest, tokenizer: Any, shape: ModelShape | None = None
) -> TrainingData:
    """Return the same as `prepare`, with the refusal in the report instead of an error."""
    found = _Found(source.name)
    controls = ControlTokens(tokenizer)
    with open_chat_template(tokenizer) as template:
        if request.chat_template is not None and template is not None:
            template.check()
        renderer = Renderer(
            controls,
            template,
            eos=tokenizer.eos_token or "",
            completion_only=request.completion_only,
        )
        rendered = found.read(source, request, renderer)
    samples = _spread(len(rendered))
    examples: list[Example] = []
    for index, tokens in enumerate(
        tokenise(controls, [text for _, text in rendered], request.max_seq_length)
    ):
        line, text = rendered[index]
        if index in samples and tokens.input_ids:
            found.samples.append(segments(controls, text.text, tokens))
        if found.count(line, tokens):
            examples.append({"input_ids": tokens.input_ids, "labels": tokens.labels})
    train, validation = _split(examples, request.validation_split, request.seed)
    return TrainingData(train, validation, found.report(source, request, train, validation, shape))


def _spread(number: int) -> set[int]:
    """Return the places of the samples: the first, the middle and the last."""
    return {0, number // 2, number - 1}


@dataclass
class _Found:
    """What is counted while rows become examples."""

    name: str
    rows: int = 0
    format: DataFormat | None = None
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[Rule] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    truncated: int = 0
    nothing_trained: int = 0
    supervised: int = 0
    samples: list[list[Segment]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    spelling: Counter[str] = field(default_factory=Counter)

    def refuse(self, line: int, fault: RowFault) -> None:
        self.counts[fault.rule] += 1
        if len(self.faults) < _SHOWN_FAULTS:
            self.faults.append(fault.at(self.name, line))

    def read(
        self, source: RowSource, request: FinetuningRequest, renderer: Renderer
    ) -> list[tuple[int, Rendered]]:
        """Return the usable rows' texts with their lines."""
        lines, values = self._objects(source)
        if request.column_map and values:
            values = rename_columns(values, request.column_map)
        self.format = detect_format(values, request.column_map)
        if self.format is None:
            fault = no_format(values)
            for line in lines:
                self.refuse(line, fault)
            return []
        rendered = []
        for line, value in zip(lines, values, strict=True):
            try:
                text = renderer.render(self.format.read(value))
            except RowFault as fault:
                self.refuse(line, fault)
            else:
                rendered.append((line, text))
                self.left_out.update(text.left_out)
                if text.spells:
                    self.spelling["plain text" if text.aliased else "those tokens"] += 1
        return rendered

    def _objects(self, source: RowSource) -> tuple[list[int], list[Any]]:
        lines, values = [], []
        for row in source.rows:
            self.rows += 1
            if isinstance(row.value, RowFault):
                self.refuse(row.line, row.value)
            elif isinstance(row.value, Mapping):
                lines.append(row.line)
                values.append(row.value)
            else:
                kind = type(row.value).__name__
                message, hint = f"the row is of type {kind}", "give an object with named fields"
                self.refuse(row.line, RowFault(Rule.NO_OBJECT, "", message, hint))
        return lines, values

    def count(self, line: int, tokens: TokenisedExample) -> bool:
        """Return whether there is anything to learn from these tokens."""
        self.lengths.append(tokens.full_length)
        self.truncated += tokens.truncated
        self.supervised += tokens.supervised
        if tokens.supervised:
            return True
        self.nothing_trained += 1
        message = f"none of the first {len(tokens.input_ids)} tokens is trained"
        if tokens.truncated:
            hint = f"raise max_seq_length; the example has {tokens.full_length} tokens"
        else:
            hint = "give a longer answer"
        self.refuse(line, RowFault(Rule.NOTHING_TRAINED, "", message, hint))
        return False

    def refusal(self) -> str | None:
        unusable = sum(self.counts.values())
        if not self.rows:
            return f"{self.name} has no rows"
        if unusable <= self.rows * _MOST_UNUSABLE and unusable < self.rows:
            return None
        counts = ", ".join(f"{rule}: {number}" for rule, number in self.counts.most_common())
        first = min(self.faults, key=lambda fault: fault.line)
        where = f"{first.file}, line {first.line}{first.pointer and ', ' + first.pointer}"
        return (
            f"{unusable} of {self.rows} rows are not usable ({counts}); the first: {where}: "
            f"{first.message}; {first.hint}"
        )

    def warnings(self) -> list[str]:
        left_out = (
            f"rows whose turns of the role {role} the chat template leaves out: {number}"
            for role, number in sorted(self.left_out.items())
        )
        spelling = (
            f"rows with names of control tokens, which are read as {read_as}: {number}"
            for read_as, number in self.spelling.items()
        )
        return [*left_out, *spelling]

    def report(
        self,
        source: RowSource,
        request: FinetuningRequest,
        train: Sequence[Example],
        validation: Sequence[Example],
        shape: ModelShape | None,
    ) -> DataReport:
        tokens = _token_counts(self.lengths)
        longest = min(tokens.max, request.max_seq_length) if tokens else 0
        steps, epochs = _steps(request, train)
        return DataReport(
            source=source.name,
            sha256=source.sha256,
            format=self.format.name if self.format else None,
            rows=self.rows,
            usable=len(train) + len(validation),
            refusal=self.refusal(),
            warnings=self.warnings(),
            faults=sorted(self.faults, key=lambda fault: fault.line),
            fault_counts=dict(self.counts),
            train_examples=len(train),
            validation_examples=len(validation),
            tokens=tokens,
            total_tokens=sum(self.lengths),
            truncated=self.truncated,
            nothing_trained=self.nothing_trained,
            supervised_tokens=self.supervised,
            optimizer_steps=steps,
            epochs=epochs,
            memory=estimate_memory(shape, request, longest) if shape and longest else None,
            samples=self.samples,
        )


def _token_counts(lengths: Sequence[int]) -> TokenCounts | None:
    if not lengths:
        return None
    ordered = sorted(lengths)

    def rank(share: float) -> int:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return TokenCounts(p50=rank(0.5), p95=rank(0.95), max=ordered[-1])


def _steps(request: FinetuningRequest, train: Sequence[Example]) -> tuple[int, float]:
    """Return the optimizer's steps, counted as the Trainer does, and the epochs that they are.

    When packed, the examples are as many as their tokens fill sequences at best.
    """
    number = len(train)
    if request.packing:
        total = sum(len(example["input_ids"]) for example in train)
        number = math.ceil(total / request.max_seq_length)
    if not number:
        return 0, 0.0
    batches = math.ceil(number / request.per_device_train_batch_size)
    each_epoch = math.ceil(batches / request.gradient_accumulation_steps)
    if request.max_steps > 0:
        return request.max_steps, round(request.max_steps / each_epoch, 2)
    return math.ceil(request.num_train_epochs * each_epoch), request.num_train_epochs


def _split(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Return training and validation examples, chosen by the seed; both keep their order."""
    if not share or not examples:
        return examples, []
    if len(examples) < 2:
        raise InvalidInput("validation_split: a single example cannot be split")
    number = min(max(round(len(examples) * share), 1), len(examples) - 1)
    chosen = set(random.Random(seed).sample(range(len(examples)), number))
    train = [one for index, one in enumerate(examples) if index not in chosen]
    return train, [one for index, one in enumerate(examples) if index in chosen]
