"""A bounded look at data of any form, and all of it read a few rows at a time."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ml.errors import InvalidInput
from ml.finetuning.data.json_array import elements
from ml.finetuning.data.prepare import examine, prepare
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import MOST_ROW_BYTES, Look
from ml.finetuning.data.source import open_dataset
from ml.finetuning.request import FinetuningRequest
from tests.finetuning.data.test_formats import GOOD

ROWS = [{"prompt": f"What is\n{n}?", "completion": f'It is "{n}", [so].'} for n in range(5000)]


def write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_array(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text(json.dumps(rows, indent=1))


def write_csv(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(file: Path, rows: list[dict[str, str]]) -> None:
    parquet.write_table(pa.Table.from_pylist(rows), file)


FORMS: dict[str, Callable[[Path, list[dict[str, str]]], None]] = {
    "jsonl": write_lines,
    "json": write_array,
    "csv": write_csv,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bounds", [Look(rows=7), Look(bytes=20_000)])
def test_a_look_takes_the_first_rows_as_they_are_and_knows_that_there_are_more(
    form: str, bounds: Look, tmp_path: Path
) -> None:
    FORMS[form](tmp_path / f"a.{form}", ROWS)
    source = open_dataset("a", tmp_path, bounds)
    values = [row.value for row in source.rows]
    assert values == ROWS[: len(values)]
    assert 0 < len(values) < len(ROWS) / 2
    assert not source.whole
    if bounds.rows == 7:
        assert len(values) == 7


@pytest.mark.parametrize("form", FORMS)
def test_a_look_at_a_small_file_is_whole(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path / f"a.{form}", ROWS[:9])
    source = open_dataset("a", tmp_path, Look())
    assert [row.value for row in source.rows] == ROWS[:9]
    assert source.whole
    assert source.sha256 == open_dataset("a", tmp_path).sha256


@pytest.mark.parametrize("form", FORMS)
def test_reading_all_of_a_file_takes_the_memory_of_a_few_rows(form: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{form}"
    FORMS[form](file, [{"prompt": "-" * 1000, "completion": "-"}] * 20_000)
    list(open_dataset("a", tmp_path, Look(rows=1)).rows)  # imports and caches
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_dataset("a", tmp_path).rows) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 1024**2


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_an_array_is_the_same_wherever_its_chunks_end(chunk: int) -> None:
    text = '[{"a": "\\\\\\"]},["},\n\n {"b": [1, {"c": "é"}]}, 3]'.encode()

    class Slow:
        place = 0

        def read(self, _: int) -> bytes:
            self.place += chunk
            return text[self.place - chunk : self.place]

    found = list(elements(Slow(), "a", most_bytes=1000, is_cut=False))  # type: ignore[arg-type]
    assert [(line, json.loads(one)) for line, one in found] == [
        (1, {"a": '\\"]},['}),
        (3, {"b": [1, {"c": "é"}]}),
        (3, 3),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_row_that_is_too_long_to_be_held_is_told(name: str, tmp_path: Path) -> None:
    long = json.dumps({"text": "-" * MOST_ROW_BYTES})
    if name == "a.jsonl":
        (tmp_path / name).write_text(f'{long}\n{{"text": "short"}}\n')
        first, second = open_dataset(name, tmp_path).rows
        assert (first.value.rule, second.value) == (Rule.SYNTAX, {"text": "short"})
        assert second.line == 2
    else:
        (tmp_path / name).write_text(f"[\n{long}]")
        with pytest.raises(UnusableData, match=r"a\.json, line 2: a row of over"):
            list(open_dataset(name, tmp_path).rows)


def test_a_report_on_a_part_leaves_open_what_depends_on_the_rest(
    tmp_path: Path, embedded: Any
) -> None:
    write_lines(tmp_path / "a.jsonl", [*ROWS[:60], {"prompt": "no answer"}])

    def report(bounds: Look, **given: Any) -> Any:
        request = FinetuningRequest(dataset_name="a", **given)
        return examine(open_dataset("a", tmp_path, bounds), request, embedded).report

    part, whole = report(Look(rows=20), max_steps=-1), report(Look(), max_steps=-1)
    assert (part.rows, part.whole, part.optimizer_steps, part.epochs) == (20, False, None, 3)
    assert part.sentence() == "No row of the first 20 rows dropped"
    assert (whole.rows, whole.whole, whole.optimizer_steps) == (61, True, 24)
    assert whole.sentence() == "1 of 61 rows dropped: missing 1"
    assert report(Look(rows=20)).optimizer_steps == 60
    mapped = {"column_map": {"system": "only_later"}}
    assert report(Look(rows=20), **mapped).refusal is None
    with pytest.raises(InvalidInput, match="no row has 'only_later'"):
        report(Look(), **mapped)


def test_what_training_reads_is_what_a_look_at_all_of_it_shows(
    tmp_path: Path, embedded: Any
) -> None:
    write_lines(tmp_path / "a.jsonl", ROWS[:1500])
    request = FinetuningRequest(dataset_name="a", validation_split=0.1)
    looked = examine(open_dataset("a", tmp_path), request, embedded)
    told: list[tuple[int, int]] = []
    read = prepare(
        open_dataset("a", tmp_path),
        request,
        embedded,
        file=tmp_path / "examples",
        tell=lambda rows, dropped: told.append((rows, dropped)),
    )
    assert list(read.train) == looked.train
    assert list(read.validation) == looked.validation
    assert read.report == looked.report.model_copy(update={"samples": [], "first_rows": []})
    assert told[-1] == (1500, 0)


# --- columns --------------------------------------------------------------------------------


def test_what_is_not_read_is_listed_with_its_rows(look: Any) -> None:
    rows = [
        {**GOOD, "source": "a book", "empty": "", "tags": []},
        {**GOOD, "source": "a song", "system": "Be brief."},
    ]
    report = look(*rows).report
    assert report.columns_used == ["completion", "prompt", "system"]
    assert report.columns_ignored == {"source": 2}
    turns = [{"role": "user", "content": "a", "name": "Ann"}, {"role": "assistant", "content": "b"}]
    assert look({"messages": turns}).report.columns_ignored == {"messages[].name": 1}


def test_the_history_of_an_instruction_comes_before_it_and_is_trained(
    look: Any, embedded: Any
) -> None:
    row = {"instruction": "And of Spain?", "output": "Madrid."}
    past = [["What is the capital of France?", "Paris."]]
    for history in (past, json.dumps(past)):
        (example,) = look({**row, "history": history}).train
        text = embedded.decode(example["input_ids"])
        assert text.index("Paris.") < text.index("And of Spain?") < text.index("Madrid.")
        trained = [
            a for a, b in zip(example["input_ids"], example["labels"], strict=True) if a == b
        ]
        assert "Paris." in embedded.decode(trained)
    for nothing in (None, [], "", "[]"):
        assert len(look({**row, "history": nothing}).train) == 1
    report = look(row, {**row, "history": ["one"]}).report
    assert (report.faults[0].pointer, report.faults[0].rule) == ("/history/0", Rule.TYPE)


@pytest.mark.parametrize(
    "more",
    [
        {"tools": '[{"name": "clock"}]'},
        {"tools": [{"type": "function"}]},
        {"functions": [{"name": "clock"}]},
        {"images": ["a.png"]},
    ],
)
def test_a_conversation_with_what_cannot_be_trained_is_refused(
    more: dict[str, Any], look: Any
) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    row = {"conversations": turns}
    report = look(row, row, {**row, **more}).report
    assert (report.usable, report.dropped) == (2, 1)
    assert report.faults[0].pointer == f"/{next(iter(more))}"
    assert "cannot be trained" in report.faults[0].message
    assert look({**row, "tools": "[]", "images": []}).report.usable == 1


def test_a_turn_that_is_a_call_is_refused(look: Any) -> None:
    call = {"role": "assistant", "content": "", "function_call": {"name": "clock"}}
    row = {"messages": [{"role": "user", "content": "a"}, call]}
    assert look(row).report.faults[0].pointer == "/messages/1/function_call"


def test_a_first_row_that_no_look_reaches_the_end_of_is_refused(
    tmp_path: Path, embedded: Any
) -> None:
    write_lines(tmp_path / "a.jsonl", [{"prompt": "x" * Look().bytes, "completion": "y"}])
    request = FinetuningRequest(dataset_name="a.jsonl")
    report = examine(open_dataset("a", tmp_path, Look()), request, embedded).report
    assert "its first row is over 4194304 bytes; split the row" in (report.refusal or "")
