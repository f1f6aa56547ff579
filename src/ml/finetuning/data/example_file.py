"""Examples in an Arrow file, which is mapped into memory: any number of them takes little of it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = ["Example", "open_examples", "write_examples"]

#: `input_ids` and `labels`, lists of the same length; a label of -100 is not trained.
Example = dict[str, list[int]]
_BATCH = 1000


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write examples as they come."""
    import pyarrow as pa  # type: ignore[import-untyped]

    tokens = pa.list_(pa.int32())
    schema = pa.schema([("input_ids", tokens), ("labels", tokens)])
    left = iter(examples)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        while batch := list(islice(left, _BATCH)):
            stream.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def open_examples(path: Path) -> Any:
    """Return the examples of a file, a `Dataset` of `datasets`; it may be removed then."""
    from datasets import Dataset  # type: ignore[import-untyped]

    return Dataset.from_file(str(path))
