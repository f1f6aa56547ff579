"""A small disk of its own, to be filled, and a database that another holds."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

__all__ = ["fill", "locked", "small_disk"]


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a disk in memory, as root can; skip the test for others."""
    folder.mkdir()
    options = f"size={mebibytes}m"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def fill(disk: Path, *, leaving: int = 0) -> Iterator[None]:
    """Take a disk's room, except so many bytes; the block's end gives it back."""
    ballast, rest = disk / "ballast", disk / "rest"
    try:
        rest.write_bytes(b"-" * leaving)
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"-" * 4096)
        rest.unlink()
        yield
    finally:
        ballast.unlink()


@contextlib.asynccontextmanager
async def locked(file: Path) -> AsyncIterator[None]:
    """Hold a SQLite database, so that nobody else writes.

    Whoever holds it before may need this event loop to end.
    """
    with contextlib.closing(
        sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
    ) as other:
        await asyncio.to_thread(other.execute, "BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
