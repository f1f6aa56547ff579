"""What a folder of proving artifacts says about itself: `manifest.json`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import ConfigurationError, describe_faults

__all__ = ["MANIFEST", "FileRecord", "Manifest", "TensorRecord", "Visibilities", "is_name"]

MANIFEST = "manifest.json"

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def is_name(text: str) -> bool:
    """Return whether an artifact may have this name; its id is longer by 13 characters."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text) is not None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """A file as it was when the artifact was built."""

    sha256: _Sha256
    size_bytes: int


class TensorRecord(_Record):
    """An input or output of the circuit: numbers stand in it as round(x * 2**scale)."""

    shape: tuple[int, ...]
    #: As ezkl names it: F16, F32, F64, Int, TDim (also an integer) or Bool.
    dtype: Literal["F16", "F32", "F64", "Int", "TDim", "Bool"]
    scale: int


class Visibilities(_Record):
    """What a proof tells: values themselves, their hashes, or nothing of them."""

    input: Literal["public", "private", "hashed"]
    param: Literal["fixed", "private", "hashed"]
    output: Literal["public", "private", "hashed"]


class Manifest(_Record):
    """The facts of an artifact.

    Attributes:
        id: of this very artifact: its name and the beginning of its verifying key's sha256.
        srs: where the SRS is from; proofs over a "test" SRS can be forged.
        verifier_compiler: what compiled `verifier.bin`; None where the artifact has no such file.
        proof_bytes: the length of every proof.
        proof_seconds, memory_bytes: what one proof took on the machine that built it, the most
            memory that its process held.
    """

    format: Literal[1] = 1
    id: _Name
    name: _Name
    ezkl_version: str
    model_sha256: _Sha256
    srs: Literal["given", "public", "test"]
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    visibility: Visibilities
    logrows: int
    decomp_base: int
    decomp_legs: int
    proof_bytes: int
    proof_seconds: float
    memory_bytes: int
    verifier_compiler: str | None = None
    files: dict[_Name, FileRecord]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return a folder's manifest. Raises `ConfigurationError` that says what is wrong."""
        try:
            return cls.model_validate_json((folder / MANIFEST).read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"{folder}: no proving artifact: {MANIFEST}: {error.strerror}"
            ) from None
        except ValidationError as error:
            raise ConfigurationError(f"{folder / MANIFEST}: {describe_faults(error)}") from None

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n")
