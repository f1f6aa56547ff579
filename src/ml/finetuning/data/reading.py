"""Rows of JSON, JSON Lines, CSV and Parquet files, each with its physical line."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ml.errors import PayloadTooLarge
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import Row, RowFault, RowSource

__all__ = ["FILE_ENDINGS", "MOST_BYTES", "read_file"]

#: What is tried, in this order, for a name without an ending.
FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
#: Larger files do not fit into memory as token lists either.
MOST_BYTES = 4 * 1024**3
_SPACE = " \t\r\n"
_SYNTAX_HINT = "give a JSON array of objects, or one JSON object a line"


def read_file(path: Path, name: str, *, most_bytes: int = MOST_BYTES) -> RowSource:
    """Return a file's rows; a UTF-8 byte order mark is passed over.

    The ending says only whether it is CSV or Parquet: a file that begins with `[` is read as one
    JSON array, any other as JSON Lines. Raises `PayloadTooLarge`, and, while the rows are taken,
    `UnusableData` when the rest of the file cannot be read.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise PayloadTooLarge(f"{name} has {size} bytes; {most_bytes} are read at most")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    read = {".csv": _csv_rows, ".parquet": _parquet_rows}.get(path.suffix.lower(), _json_rows)
    return RowSource(name, sha256, read(path, name))


def _json_rows(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnusableData(f"{name} is UTF-16; save it as UTF-8")
    is_array = head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    return _array_rows(path, name) if is_array else _line_rows(path)


def _line_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield Row(number, _parsed(line))


def _parsed(line: bytes) -> Any | RowFault:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as wrong:
            place = f"byte {wrong.start + 1} of the line is not UTF-8"
            return RowFault(Rule.ENCODING, "", place, "save the file as UTF-8")
        message = f"not JSON at column {error.colno}: {error.msg}"
        return RowFault(Rule.SYNTAX, "", message, _SYNTAX_HINT)


def _array_rows(path: Path, name: str) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableData(f"{name} is not UTF-8 at byte {error.start + 1}") from error
    decoder = json.JSONDecoder()
    position, line, counted = _after_space(text, text.index("[") + 1), 1, 0
    if text.startswith("]", position):
        return
    while True:
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise UnusableData(f"{name}, line {error.lineno}: not JSON: {error.msg}") from error
        except RecursionError as error:
            raise UnusableData(f"{name}, line {line}: nested too deeply") from error
        yield Row(line, value)
        end = _after_space(text, end)
        if text.startswith("]", end):
            return
        if not text.startswith(",", end):
            at = line + text.count("\n", counted, end)
            raise UnusableData(f"{name}, line {at}: a comma or the array's end is due")
        position = _after_space(text, end + 1)


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _csv_rows(path: Path, name: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from _records(file, name)
        except UnicodeDecodeError as error:
            raise UnusableData(f"{name} is not UTF-8: save it as UTF-8") from error
        except csv.Error as error:
            raise UnusableData(f"{name} cannot be read as CSV: {error}") from error


def _records(file: Any, name: str) -> Iterator[Row]:
    header = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter=max(",;\t", key=header.count))
    columns = next(reader, [])
    if len(set(columns)) != len(columns):
        raise UnusableData(f"{name} has two columns of one name")
    line = reader.line_num + 1
    for cells in reader:
        if not cells:
            pass  # an empty line
        elif len(cells) == len(columns):
            yield Row(line, dict(zip(columns, cells, strict=True)))
        else:
            message = f"{len(cells)} cells where the header has {len(columns)}"
            yield Row(line, RowFault(Rule.SYNTAX, "", message, "quote texts that hold a comma"))
        line = reader.line_num + 1


def _parquet_rows(path: Path, name: str) -> Iterator[Row]:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UnusableData(f"{name} cannot be read as Parquet: {reason}") from error
