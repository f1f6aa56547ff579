"""Rows of JSON, JSON Lines, CSV and Parquet files, each with its physical line."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
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
#: The strings of a JSON text, each as one match, and the marks that structure it; a match that is
#: a quote alone begins a string without an end.
_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},"]', re.DOTALL)
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
                value = _parsed(line)
                yield Row(number, value.fault if isinstance(value, _Broken) else value)


@dataclass(frozen=True, slots=True)
class _Broken:
    line: int
    fault: RowFault


def _parsed(text: bytes | str) -> Any | _Broken:
    """Return the value of JSON, or what is wrong with it and on which of its lines.

    The standard library's parser is not used: it follows brackets down the stack, and where a
    library has raised the recursion limit, a file full of them ends the process.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if isinstance(text, bytes):
            try:
                text.decode()
            except UnicodeDecodeError as wrong:
                place = f"byte {wrong.start + 1} of the line is not UTF-8"
                fault = RowFault(Rule.ENCODING, "", place, "save the file as UTF-8")
                return _Broken(1, fault)
        message = f"not JSON at column {error.colno}: {error.msg}"
        return _Broken(error.lineno, RowFault(Rule.SYNTAX, "", message, _SYNTAX_HINT))


def _array_rows(path: Path, name: str) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableData(f"{name} is not UTF-8 at byte {error.start + 1}") from error
    line, counted = 1, 0
    for start, end in _elements(text, name):
        line, counted = line + text.count("\n", counted, start), start
        value = _parsed(text[start:end])
        if isinstance(value, _Broken):
            yield Row(line + value.line - 1, value.fault)
        else:
            yield Row(line, value)


def _elements(text: str, name: str) -> Iterator[tuple[int, int]]:
    """Yield where the elements of an array stand, by its brackets and commas alone."""
    depth, start = 0, 0
    for match in _STRUCTURE.finditer(text):
        mark, place = text[match.start()], match.start()
        if match.end() - place > 1:
            continue
        if mark == '"':
            at = text.count("\n", 0, place) + 1
            raise UnusableData(f"{name}, line {at}: a text begins here that does not end")
        if mark in "[{":
            depth += 1
            if depth == 1:
                start = place + 1
        elif mark == "," and depth == 1:
            yield _trimmed(text, start, place)
            start = place + 1
        elif mark in "]}":
            depth -= 1
            if depth == 0:
                if text[start:place].strip():
                    yield _trimmed(text, start, place)
                return
    raise UnusableData(f"{name}: the array that it begins with does not end")


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in _SPACE:
        start += 1
    return start, end


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
