"""Small files that unpack to gigabytes: refused with the limit, while little memory is taken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ml.errors import PayloadTooLarge
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import MOST_ROW_BYTES, Look, RowFault
from ml.finetuning.data.source import open_dataset
from ml.finetuning.limited import bounded_memory
from ml.finetuning.queries.results import QueryResults
from tests.finetuning.queries.conftest import write_database
from tests.support.finetuning import Workplace
from tests.support.processes import clean_environment

MB = 1024**2
_READ = """
import sys
from pathlib import Path
from ml.finetuning.data.row import Look
from ml.finetuning.data.source import open_dataset

try:
    look = Look() if sys.argv[2] == "look" else None
    for row in open_dataset("bomb.parquet", Path(sys.argv[1]), look).rows:
        pass
except Exception as error:
    print(type(error).__name__, error)
# Not what getrusage says, which is at least what the process that started this one took.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


def one_long_text(file: Path) -> None:
    """Every row is a place in a dictionary whose one text has 10 MB."""
    places = pa.array(np.zeros(100_000, np.int32))
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 10_000_000]))
    table = pa.table({"text": texts})
    parquet.write_table(
        table, file, compression="zstd", store_schema=False, dictionary_pagesize_limit=2**30
    )


def one_long_text_of_a_category(file: Path) -> None:
    """The same, which is read as places and a dictionary."""
    places = pa.array(np.zeros(100_000, np.int32))
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 10_000_000]))
    table = pa.table({"text": texts})
    parquet.write_table(table, file, compression="zstd", dictionary_pagesize_limit=2**30)


def many_rows_of_nothing(file: Path) -> None:
    parquet.write_table(pa.table({"text": pa.nulls(20_000_000, pa.int8())}), file)


def pages_of_zeros(file: Path) -> None:
    chunk = pa.table({"text": ["0" * 64 * MB]})
    with parquet.ParquetWriter(
        file, chunk.schema, compression="zstd", use_dictionary=False
    ) as writer:
        for _ in range(18):
            writer.write_table(chunk)


BOMBS: list[Callable[[Path], None]] = [
    one_long_text,
    one_long_text_of_a_category,
    many_rows_of_nothing,
    pages_of_zeros,
]


@pytest.mark.parametrize("how", ["look", "whole"])
@pytest.mark.parametrize("write", BOMBS)
def test_what_unpacks_to_gigabytes_is_refused_with_the_limit_and_takes_little_memory(
    write: Callable[[Path], None], how: str, tmp_path: Path
) -> None:
    write(tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 300_000
    ran = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path), how],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said, megabytes = ran.stdout.splitlines()
    assert said.startswith("PayloadTooLarge bomb.parquet unpacks to "), said
    assert "bytes" in said
    assert int(megabytes) < 1200


def test_a_job_fails_with_the_reason(workplace: Workplace) -> None:
    one_long_text(workplace.input / "bomb.parquet")
    with pytest.raises(PayloadTooLarge, match="unpacks to rows, or pages of them"):
        workplace.run(dataset_name="bomb.parquet")
    assert list(workplace.output.iterdir()) == []


def test_long_texts_that_repeat_are_read(tmp_path: Path) -> None:
    rows = [{"prompt": "p" * 100_000, "completion": str(number)} for number in range(400)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row.value for row in open_dataset("a", tmp_path).rows] == rows
    looked = open_dataset("a", tmp_path, Look())
    assert [row.value for row in looked.rows] == rows[:41]
    assert not looked.whole


def test_a_category_is_read_as_its_texts(tmp_path: Path) -> None:
    texts = pa.array(["a", "b", "a", None]).dictionary_encode()
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    values = [row.value for row in open_dataset("a", tmp_path).rows]
    assert values == [{"text": text} for text in ("a", "b", "a", None)]


def test_a_row_that_is_too_long_is_a_fault_of_this_row(tmp_path: Path) -> None:
    table = pa.table({"text": ["-" * (MOST_ROW_BYTES + 1), "short"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    first, second = (row.value for row in open_dataset("a", tmp_path).rows)
    assert isinstance(first, RowFault)
    assert (first.rule, first.hint) == (Rule.SYNTAX, "split the row")
    assert second == {"text": "short"}


def test_results_whose_schema_makes_long_texts_are_refused(tmp_path: Path) -> None:
    write_database(
        tmp_path / "q.db",
        "CREATE TABLE results (a, text AS (hex(zeroblob(400000000))))",
        "INSERT INTO results VALUES (1)",
    )
    with pytest.raises(UnusableData, match="too big"):
        list(QueryResults(tmp_path).open("q").rows)


def test_memory_beyond_a_bound_is_an_error_and_the_bound_ends_with_the_block() -> None:
    with bounded_memory(50 * MB):
        assert len(bytearray(20 * MB)) == 20 * MB
        with pytest.raises(MemoryError):
            bytearray(200 * MB)
    assert len(bytearray(200 * MB)) == 200 * MB
