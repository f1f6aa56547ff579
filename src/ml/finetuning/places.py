"""Where a job reads and writes, as its process is told by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Places"]


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of a job, and the dtype of the weights that TRL trains on.

    Attributes:
        dtype: "auto" is bfloat16 where the processor has instructions for it; `TRAINER_DTYPE`.
    """

    input: Path
    output: Path
    working: Path
    dtype: str = "auto"

    @classmethod
    def from_environment(cls) -> Self:
        """Return what `INPUT_PATH`, `OUTPUT_PATH` and `WORKING_PATH` say."""
        return cls(
            input=Path(os.environ.get("INPUT_PATH") or "/mnt/input"),
            output=Path(os.environ.get("OUTPUT_PATH") or "/mnt/output"),
            working=Path(os.environ.get("WORKING_PATH") or "/mnt/working"),
            dtype=os.environ.get("TRAINER_DTYPE") or "auto",
        )
