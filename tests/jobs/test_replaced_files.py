"""A file that is replaced, cut or goes on growing between the look at it and its download."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ml.errors import NotFound
from ml.jobs.stored_file import LocalPlace


def replace(file: Path, content: bytes) -> None:
    other = file.with_name("other")
    other.write_bytes(content)
    other.rename(file)


@pytest.mark.parametrize("content", [b"another", b"shorter", b"one that is longer"])
def test_another_file_in_its_place_is_not_taken_for_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(b"one of 12 by")
    stored = LocalPlace(tmp_path).look("file")
    assert stored is not None
    replace(tmp_path / "file", content)
    with pytest.raises(NotFound, match="'file' is replaced meanwhile; ask again"):
        stored.open()


def test_one_that_was_cut_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"all of it")
    stored = LocalPlace(tmp_path).look("file")
    assert stored is not None
    os.truncate(tmp_path / "file", 3)
    with pytest.raises(NotFound, match="replaced meanwhile"):
        stored.open()


def test_one_that_grows_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one\n")
    stored = LocalPlace(tmp_path).look("file")
    assert stored is not None
    with (tmp_path / "file").open("ab") as file:
        file.write(b"two\n")
    with stored.open() as opened:
        assert opened.read(stored.size) == b"one\n"
