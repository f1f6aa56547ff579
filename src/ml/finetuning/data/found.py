"""What is counted while the rows of a data set become examples, and the report on it."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import orjson

from ml.finetuning.data.columns import Columns
from ml.finetuning.data.formats import DataFormat, detect_format, no_format
from ml.finetuning.data.memory import ModelShape, estimate_memory
from ml.finetuning.data.rendering import Rendered, Renderer
from ml.finetuning.data.report import (
    DataReport,
    Fault,
    ReadRow,
    Rule,
    Segment,
    TokenCounts,
    shown,
)
from ml.finetuning.data.row import Look, RowFault, RowSource
from ml.finetuning.data.tokenizing import TokenisedExample
from ml.finetuning.request import FinetuningRequest

__all__ = ["Found", "Tell"]

#: Told the rows so far, and how many of them are left out.
Tell = Callable[[int, int], None]
#: Rows by which the format is told, which are held in memory: fewer, where they are long.
_TELLING_ROWS, _TELLING_BYTES = 200, 64 * 1024**2
_SHOWN_FAULTS = 20
#: Rows, and columns of each, that are shown as they were read.
_SHOWN_ROWS, _SHOWN_COLUMNS = 5, 50
#: A larger share of unusable rows is a wrong file or a wrong column_map, not a few bad rows.
_MOST_UNUSABLE = 0.5


class Found:
    """Reads a data set's rows and counts what they are; `tell` is called with each."""

    def __init__(self, source: RowSource, request: FinetuningRequest, tell: Tell) -> None:
        self._source = source
        self._request = request
        self._tell = tell
        self._columns = Columns(request.column_map)
        self._format: DataFormat | None = None
        self._rows = self._bytes = 0
        self._faults: list[Fault] = []
        #: The first rows as they were read.
        self.first_rows: list[ReadRow] = []
        self._counts: Counter[Rule] = Counter()
        self._left_out: Counter[str] = Counter()  # turns that the template does not show, by role
        self._spelling: Counter[str] = Counter()  # how names of control tokens are read
        self._lengths = array("L")
        self._kept_tokens = self._truncated = self._nothing_trained = self._supervised = 0

    @property
    def dropped(self) -> int:
        """Rows that are not usable, so far."""
        return sum(self._counts.values())

    def rendered(self, renderer: Renderer) -> Iterator[tuple[int, Rendered]]:
        """Yield the usable rows' texts with their lines."""
        rows = self._objects()
        first: list[tuple[int, Mapping[str, Any]]] = []
        for row in islice(rows, _TELLING_ROWS):
            first.append(row)
            if self._bytes > _TELLING_BYTES:
                break
        self._format = detect_format([value for _, value in first], self._request.column_map)
        unknown = no_format([value for _, value in first])
        for line, value in chain(first, rows):
            if self._format is None:
                self._refuse(line, unknown)
                continue
            try:
                text = renderer.render(self._format.meaning(value))
            except RowFault as fault:
                self._refuse(line, fault)
            else:
                self._columns.count(value, self._format)
                self._left_out.update(text.left_out)
                if text.spells:
                    self._spelling["plain text" if text.aliased else "those tokens"] += 1
                yield line, text
        if self._source.whole and self._rows:
            self._columns.require_found()

    def _objects(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for row in self._source.rows:
            self._rows += 1
            self._bytes += row.bytes
            self._tell(self._rows, self.dropped)
            if isinstance(row.value, RowFault):
                self._refuse(row.line, row.value)
            elif isinstance(row.value, Mapping):
                if len(self.first_rows) < _SHOWN_ROWS:
                    self.first_rows.append(ReadRow(line=row.line, values=_texts(row.value)))
                yield row.line, self._columns.rename(row.value)
            else:
                kind = type(row.value).__name__
                message, hint = f"the row is of type {kind}", "give an object with named fields"
                self._refuse(row.line, RowFault(Rule.NO_OBJECT, "", message, hint))

    def _refuse(self, line: int, fault: RowFault) -> None:
        self._counts[fault.rule] += 1
        if len(self._faults) < _SHOWN_FAULTS:
            self._faults.append(fault.at(self._source.name, line))

    def count(self, line: int, tokens: TokenisedExample) -> bool:
        """Return whether there is anything to learn from these tokens."""
        self._lengths.append(tokens.full_length)
        self._truncated += tokens.truncated
        self._supervised += tokens.supervised
        if tokens.supervised:
            self._kept_tokens += len(tokens.input_ids)
            return True
        self._nothing_trained += 1
        message = f"none of the first {len(tokens.input_ids)} tokens is trained"
        if tokens.truncated:
            hint = f"raise max_seq_length; the example has {tokens.full_length} tokens"
        else:
            hint = "give a longer answer"
        self._refuse(line, RowFault(Rule.NOTHING_TRAINED, "", message, hint))
        return False

    def _refusal(self) -> str | None:
        if not self._rows:
            if self._source.whole:
                return f"{self._source.name} has no rows"
            return f"{self._source.name}: its first row is over {Look().bytes} bytes; split the row"
        if self.dropped <= self._rows * _MOST_UNUSABLE and self.dropped < self._rows:
            return None
        counts = ", ".join(f"{rule}: {number}" for rule, number in self._counts.most_common())
        first = min(self._faults, key=lambda fault: fault.line)
        where = f"{first.file}, line {first.line}{first.pointer and ', ' + first.pointer}"
        of = f"{self._rows} rows" if self._source.whole else f"the first {self._rows} rows"
        return (
            f"{self.dropped} of {of} are not usable ({counts}); the first: {where}: "
            f"{first.message}; {first.hint}"
        )

    def _warnings(self) -> list[str]:
        left_out = (
            f"rows whose turns of the role {role} the chat template leaves out: {number}"
            for role, number in sorted(self._left_out.items())
        )
        spelling = (
            f"rows with names of control tokens, which are read as {read_as}: {number}"
            for read_as, number in self._spelling.items()
        )
        return [*left_out, *spelling]

    def report(
        self,
        train: int,
        validation: int,
        shape: ModelShape | None,
        samples: Sequence[list[Segment]] = (),
        first_rows: Sequence[ReadRow] = (),
    ) -> DataReport:
        """Return the report, given how many examples there are of each kind."""
        request, whole = self._request, self._source.whole
        tokens = _token_counts(self._lengths)
        longest = min(tokens.max, request.max_seq_length) if tokens else 0
        steps, epochs = self._steps(train, validation)
        return DataReport(
            source=self._source.name,
            sha256=self._source.sha256,
            whole=whole,
            format=self._format.name if self._format else None,
            columns_used=sorted(self._columns.used),
            columns_ignored=dict(self._columns.ignored),
            rows=self._rows,
            usable=train + validation,
            dropped=self.dropped,
            refusal=self._refusal(),
            warnings=self._warnings(),
            faults=sorted(self._faults, key=lambda fault: fault.line),
            fault_counts=dict(self._counts),
            train_examples=train,
            validation_examples=validation,
            tokens=tokens,
            total_tokens=sum(self._lengths),
            truncated=self._truncated,
            nothing_trained=self._nothing_trained,
            supervised_tokens=self._supervised,
            optimizer_steps=steps if whole or request.max_steps > 0 else None,
            epochs=epochs if whole or request.max_steps <= 0 else None,
            memory=estimate_memory(shape, request, longest) if shape and longest else None,
            samples=list(samples),
            first_rows=list(first_rows),
        )

    def _steps(self, train: int, validation: int) -> tuple[int, float]:
        """Return the optimizer's steps, counted as the Trainer does, and the epochs they are.

        When packed, the examples are as many as their tokens fill sequences at best.
        """
        request, number = self._request, train
        if request.packing and train:
            tokens = self._kept_tokens * train / (train + validation)
            number = math.ceil(tokens / request.max_seq_length)
        if not number:
            return 0, 0.0
        batches = math.ceil(number / (request.per_device_train_batch_size * request.num_workers))
        each_epoch = math.ceil(batches / request.gradient_accumulation_steps)
        if request.max_steps > 0:
            return request.max_steps, round(request.max_steps / each_epoch, 2)
        return math.ceil(request.num_train_epochs * each_epoch), request.num_train_epochs


def _texts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (shown(str(name)), shown(value if isinstance(value, str) else _as_json(value)))
        for name, value in islice(row.items(), _SHOWN_COLUMNS)
    ]


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=repr).decode()
    except orjson.JSONEncodeError:  # nested too deeply, or a number too large
        return "…"


def _token_counts(lengths: Sequence[int]) -> TokenCounts | None:
    if not lengths:
        return None
    ordered = sorted(lengths)

    def rank(share: float) -> int:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return TokenCounts(p50=rank(0.5), p95=rank(0.95), max=ordered[-1])
