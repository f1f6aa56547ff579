"""Where the structured reference string (SRS) of a setup comes from.

Who knows its secret can forge proofs, so that of a public ceremony is due; one that was made here
is for tests.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ml.errors import ConfigurationError
from ml.proving import build_tasks
from ml.proving.worker import Worker

__all__ = ["SrsKind", "SrsSource"]

SrsKind = Literal["given", "public", "test"]


@dataclass(frozen=True)
class SrsSource:
    """A file, the public SRS that ezkl downloads, or one for tests; `path` is the file's."""

    kind: SrsKind
    path: Path | None = None

    def check(self) -> None:
        """Raise `ConfigurationError` for a file that is no SRS."""
        if self.kind == "given":
            _logrows(self._file())

    def put(self, target: Path, logrows: int, worker: Worker) -> str:
        """Write the SRS for 2**logrows rows to a path; returns a remark on it.

        Raises `ConfigurationError` for a file that is too small, and for a download that fails.
        """
        if self.kind == "test":
            worker.run(partial(build_tasks.make_test_srs, target, logrows))
            return "made here, for tests alone"
        if self.kind == "public":
            worker.run(partial(build_tasks.download_srs, target, logrows))
            return "downloaded"
        file = self._file()
        found = _logrows(file)
        if found < logrows:
            raise ConfigurationError(
                f"{file} is for 2^{found} rows; this circuit needs kzg{logrows}.srs"
            )
        shutil.copyfile(file, target)
        if found > logrows:
            return f"for 2^{found} rows: each proof is slower than with kzg{logrows}.srs"
        return str(file)

    def _file(self) -> Path:
        if self.path is None:
            raise ConfigurationError("srs: give the path of a file")
        return self.path


def _logrows(path: Path) -> int:
    """Return the rows that a file is for: it has 4 bytes of head, 128 a row, 256 at its end."""
    try:
        with path.open("rb") as file:
            logrows = int.from_bytes(file.read(4), "little")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    if logrows > 32 or path.stat().st_size != 4 + 128 * 2**logrows + 256:
        raise ConfigurationError(f"{path}: no KZG SRS over BN254")
    return logrows
