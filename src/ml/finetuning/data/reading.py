"""Rows of JSON, JSON Lines, CSV and Parquet files, each with its physical line."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ml.errors import PayloadTooLarge
from ml.finetuning.data.json_array import elements
from ml.finetuning.data.parquet_rows import parquet_rows
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import MOST_BYTES, MOST_ROW_BYTES, Look, Row, RowFault, RowSource

__all__ = ["FILE_ENDINGS", "first_rows", "read_file"]

#: What is tried, in this order, for a name without an ending.
FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
_SYNTAX_HINT = "give a JSON array of objects, or one JSON object a line"


def read_file(
    path: Path, name: str, *, most_bytes: int = MOST_BYTES, look: Look | None = None
) -> RowSource:
    """Return a file's rows; a UTF-8 byte order mark is passed over.

    The ending says only whether it is CSV or Parquet: a file that begins with `[` is read as one
    JSON array, any other as JSON Lines. One row at a time is in memory. Of a file that is larger
    than a `look`, only its first rows are read, and no hash is made. Raises `PayloadTooLarge`,
    and, while the rows are taken, `UnusableData` when the rest of the file cannot be read.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise PayloadTooLarge(f"{name} has {size} bytes; {most_bytes} are read at most")
    is_cut = look is not None and size > look.bytes
    source = RowSource(name, None if is_cut else _sha256(path), ())
    if path.suffix.lower() == ".parquet":
        rows = parquet_rows(path, source, look)
    else:
        rows = _text_rows(path, name, look.bytes if look is not None and is_cut else None)
        source.whole = not is_cut
    source.rows = rows if look is None else first_rows(rows, source, look.rows)
    return source


def first_rows(rows: Iterator[Row], source: RowSource, most: int) -> Iterator[Row]:
    """Yield so many rows; if there are more, the source is not whole."""
    yield from islice(rows, most)
    if next(rows, None) is not None:
        source.whole = False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_rows(path: Path, name: str, most_bytes: int | None) -> Iterator[Row]:
    """Yield the rows of the whole file, or of its first `most_bytes`."""
    with path.open("rb") as whole:
        file: BinaryIO = whole if most_bytes is None else io.BytesIO(whole.read(most_bytes))
        is_cut = most_bytes is not None
        head = file.read(4096)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UnusableData(f"{name} is UTF-16; save it as UTF-8")
        mark = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else b""
        file.seek(len(mark))
        if path.suffix.lower() == ".csv":
            yield from _csv_rows(file, name, is_cut=is_cut)
        elif head.removeprefix(mark).lstrip().startswith(b"["):
            yield from _array_rows(file, name, is_cut=is_cut)
        else:
            yield from _line_rows(file, is_cut=is_cut)


def _line_rows(file: BinaryIO, *, is_cut: bool) -> Iterator[Row]:
    for number, line in enumerate(_lines(file, is_cut=is_cut), start=1):
        if line is None:
            message = f"the line has over {MOST_ROW_BYTES} bytes"
            yield Row(number, RowFault(Rule.SYNTAX, "", message, "split the row"))
        elif line.strip():
            value = _parsed(line)
            yield Row(number, value.fault if isinstance(value, _Broken) else value, len(line))


def _lines(file: BinaryIO, *, is_cut: bool) -> Iterator[bytes | None]:
    """Yield the lines, None for one that is too long to be held; a cut file's last is left out."""
    while line := file.readline(MOST_ROW_BYTES):
        if line.endswith(b"\n"):
            yield line
        elif len(line) < MOST_ROW_BYTES:
            if not is_cut:
                yield line
        else:
            while (rest := file.readline(MOST_ROW_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield None


@dataclass(frozen=True, slots=True)
class _Broken:
    line: int
    fault: RowFault


def _parsed(text: bytes) -> Any | _Broken:
    """Return the value of JSON, or what is wrong with it and on which of its lines.

    The standard library's parser is not used: it follows brackets down the stack, and where a
    library has raised the recursion limit, a file full of them ends the process.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            text.decode()
        except UnicodeDecodeError as wrong:
            place = f"byte {wrong.start + 1} of the row is not UTF-8"
            return _Broken(1, RowFault(Rule.ENCODING, "", place, "save the file as UTF-8"))
        message = f"not JSON at column {error.colno}: {error.msg}"
        return _Broken(error.lineno, RowFault(Rule.SYNTAX, "", message, _SYNTAX_HINT))


def _array_rows(file: BinaryIO, name: str, *, is_cut: bool) -> Iterator[Row]:
    for line, text in elements(file, name, most_bytes=MOST_ROW_BYTES, is_cut=is_cut):
        value = _parsed(text)
        if isinstance(value, _Broken):
            yield Row(line + value.line - 1, value.fault)
        else:
            yield Row(line, value, len(text))


def _csv_rows(file: BinaryIO, name: str, *, is_cut: bool) -> Iterator[Row]:
    rows = _records(_decoded(file, name, is_cut=is_cut), name)
    try:
        # The last record of a cut file may be half of one: its line breaks may be in quotes.
        yield from _all_but_last(rows) if is_cut else rows
    except csv.Error as error:
        raise UnusableData(f"{name} cannot be read as CSV: {error}") from error


def _decoded(file: BinaryIO, name: str, *, is_cut: bool) -> Iterator[str]:
    for number, line in enumerate(_lines(file, is_cut=is_cut), start=1):
        if line is None:
            raise UnusableData(f"{name}, line {number} has over {MOST_ROW_BYTES} bytes")
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UnusableData(f"{name}, line {number} is not UTF-8: save it as UTF-8") from error


def _all_but_last(rows: Iterator[Row]) -> Iterator[Row]:
    last = next(rows, None)
    for row in rows:
        if last is not None:
            yield last
        last = row


def _records(lines: Iterator[str], name: str) -> Iterator[Row]:
    header = next(lines, "")
    reader = csv.reader(chain([header], lines), delimiter=max(",;\t", key=header.count))
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
