"""From a data set's name to its rows: a file under the input folder, or a data set of the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ml.errors import ConfigurationError, InvalidInput, NotFound, UpstreamError
from ml.finetuning.data.reading import FILE_ENDINGS, first_rows, read_file
from ml.finetuning.data.row import Look, Row, RowSource
from ml.models.local_models import refusal_of_the_hub

__all__ = ["file_names", "find_file", "open_dataset"]

#: With its owner only: a bare name may also be one of the loaders of `datasets`, such as "json",
#: which would read whatever lies in the working folder.
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def open_dataset(name: str, root: Path, look: Look | None = None) -> RowSource:
    """Return the rows of a file under `root`, or of the data set that the hub has by this name.

    With a `look`, so many of them.

    Raises `InvalidInput` for a name that leads out of `root`, `NotFound` when neither is there,
    and `UpstreamError` when the hub cannot be asked.
    """
    path = find_file(name, root)
    if path is not None:
        return read_file(path, path.relative_to(root.resolve()).as_posix(), look=look)
    if _HUB_NAME.fullmatch(name) and not name.endswith(FILE_ENDINGS):
        return _open_hub(name, look)
    if name.startswith("file-"):
        raise NotFound(f"dataset_name: there is no uploaded file {name!r}, or not any more")
    endings = "" if name.endswith(FILE_ENDINGS) else f" (nor with {', '.join(FILE_ENDINGS)})"
    raise NotFound(
        f"dataset_name: there is no file {name!r}{endings} in the input folder; data sets of the "
        "hub are named owner/name"
    )


def file_names(name: str) -> list[str]:
    """Return the names, relative to the input folder, that the file of a data set may have.

    Raises `InvalidInput` for one that is absolute or climbs.
    """
    plain = name.removeprefix("./")
    if not plain or "\0" in plain or "\\" in plain or plain.startswith(("/", "~")):
        raise InvalidInput("dataset_name: give a name relative to the input folder")
    if ".." in plain.split("/"):
        raise InvalidInput("dataset_name: may not hold '..'")
    endings = ("",) if plain.lower().endswith(FILE_ENDINGS) else FILE_ENDINGS
    return [f"{plain}{ending}" for ending in endings]


def find_file(name: str, root: Path) -> Path | None:
    """Return the file of this name under `root`, an ending added if it has none; None if none is.

    Raises `InvalidInput` when the name is absolute, climbs, or follows a link out of `root`.
    """
    inside = root.resolve()
    for candidate in file_names(name):
        try:
            path = (inside / candidate).resolve()
            found = path.is_file()
        except (OSError, RuntimeError) as error:  # too long, or links that go in a circle
            raise InvalidInput("dataset_name: this is no name of a file") from error
        if not path.is_relative_to(inside):
            raise InvalidInput(f"dataset_name: {name!r} leads out of the input folder")
        if found:
            return path
    return None


def _open_hub(name: str, look: Look | None) -> RowSource:
    if Path(name).exists():  # `datasets` would take the folder instead of the hub's data set
        raise InvalidInput(f"dataset_name: {name!r} is also a path on this machine; use its files")
    nowhere = f"dataset_name: there is no file {name!r} in the input folder"
    try:
        import datasets  # type: ignore[import-untyped]
        from datasets.exceptions import (  # type: ignore[import-untyped]
            DatasetNotFoundError,
            DatasetsError,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError("a data set of the hub needs the extra 'trainer'") from error
    cached = Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___")).is_dir()
    if not cached and (missing := refusal_of_the_hub(name, "dataset")):
        raise UpstreamError(f"{nowhere}, and as a data set of the hub: {missing}")
    # What is in the cache is bounded by being there; the hub's is read as far as it is looked at.
    streaming = look is not None and not cached
    try:
        table = datasets.load_dataset(name, split="train", streaming=streaming)
    except DatasetNotFoundError as error:
        raise NotFound(f"{nowhere}, and the hub has no such data set that may be read") from error
    except OSError as error:
        raise UpstreamError(f"{nowhere}, and the hub cannot be reached") from error
    except (ValueError, RuntimeError, DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(f"dataset_name: {name!r} cannot be loaded: {reason}") from error
    source = RowSource(name, None if look is not None else _sha256_of_rows(table), ())
    rows = _numbered(table)
    source.rows = rows if look is None else first_rows(rows, source, look.rows)
    return source


def _numbered(table: Any) -> Iterator[Row]:
    for number, value in enumerate(table, start=1):
        yield Row(number, value)


def _sha256_of_rows(table: Any) -> str:
    digest = hashlib.sha256()
    for value in table:
        digest.update(orjson.dumps(value, default=repr, option=orjson.OPT_APPEND_NEWLINE))
    return digest.hexdigest()
