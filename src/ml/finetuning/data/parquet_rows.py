"""Rows of Parquet files. A few kilobytes may say gigabytes: what they unpack to is bounded.

What a file says of its size is believed where that is too much. It is no proof of the contrary, so
the memory that reading takes is bounded, too, and all that comes of it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml.errors import PayloadTooLarge
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import MOST_BYTES, MOST_ROW_BYTES, Look, Row, RowFault, RowSource
from ml.finetuning.limited import bounded_memory

__all__ = ["parquet_rows"]

#: Rows that are unpacked at once: fewer, where they are long.
_MOST_ROWS, _WISHED_BYTES = 256, 32 * 1024**2
_BUFFER_BYTES = 1 << 20
#: Of what reading such rows takes.
_MOST_MEMORY_BYTES = 512 * 1024**2
#: What a file may unpack to: texts do not shrink to less than a hundredth, but small files may.
_MOST_TIMES, _ALLOWED_BYTES = 100, 1024**3
#: What a row counts for if there is nothing in it.
_ROW_BYTES = 64


def parquet_rows(path: Path, source: RowSource, look: Look | None) -> Iterator[Row]:
    """Yield a file's rows, or so many of the first as a look takes.

    Raises `PayloadTooLarge` for a file that unpacks to too much, `UnusableData` for one that
    cannot be read.
    """
    import pyarrow as pa  # type: ignore[import-untyped]

    most_bytes = min(MOST_BYTES, max(_ALLOWED_BYTES, _MOST_TIMES * path.stat().st_size))
    number = size = 0
    try:
        for part in _parts(path, source.name, most_bytes, by_row=look is not None):
            size += max(part.nbytes, _ROW_BYTES * part.num_rows)
            if look is not None and size > look.bytes:
                source.whole = False
                return
            if size > most_bytes:
                raise _too_large(source.name, most_bytes)
            for value in _values(part):
                number += 1
                yield Row(number, value, part.nbytes // part.num_rows)
    except MemoryError as error:
        raise PayloadTooLarge(
            f"{source.name} unpacks to rows, or pages of them, that take over "
            f"{_MOST_MEMORY_BYTES} bytes of memory; split its rows"
        ) from error
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnusableData(f"{source.name} cannot be read as Parquet: {reason}") from error


def _too_large(name: str, most_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"{name} unpacks to over {most_bytes} bytes, which are read at most")


def _parts(path: Path, name: str, most_bytes: int, *, by_row: bool) -> Iterator[Any]:
    """Yield pieces of the table: a row each, or as many as are short."""
    from pyarrow import parquet

    with bounded_memory(_MOST_MEMORY_BYTES):
        opened = parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    with opened as file:
        told = file.metadata
        unpacked = sum(told.row_group(n).total_byte_size for n in range(told.num_row_groups))
        if max(unpacked, _ROW_BYTES * told.num_rows) > most_bytes:
            raise _too_large(name, most_bytes)
        fitting = _WISHED_BYTES * told.num_rows // max(unpacked, 1)
        # Threads of its own would be made under the bound, and might not be.
        batches = file.iter_batches(max(1, min(_MOST_ROWS, fitting)), use_threads=False)
        while (batch := _next(batches)) is not None:
            if by_row or batch.nbytes > MOST_ROW_BYTES:
                yield from (batch.slice(place, 1) for place in range(batch.num_rows))
            elif batch.num_rows:
                yield batch


def _next(batches: Iterator[Any]) -> Any:
    """Return the next batch, its texts as they are and not as places in a list of them."""
    import pyarrow as pa

    with bounded_memory(_MOST_MEMORY_BYTES):
        batch = next(batches, None)
        if batch is None or not any(map(pa.types.is_dictionary, batch.schema.types)):
            return batch
        columns = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for column in batch.columns
        ]
        return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _values(part: Any) -> list[Any]:
    if part.nbytes > MOST_ROW_BYTES:
        message = f"the row has over {MOST_ROW_BYTES} bytes"
        return [RowFault(Rule.SYNTAX, "", message, "split the row")]
    with bounded_memory(_MOST_MEMORY_BYTES):
        values: list[Any] = part.to_pylist()
        return values
