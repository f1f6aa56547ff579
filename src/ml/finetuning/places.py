"""What a job's process is told by its environment: where it reads and writes, and whom it asks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Places"]


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of a job, and where its queries go.

    Attributes:
        dtype: of the weights that TRL trains on; "auto" is bfloat16 where the processor has
            instructions for it, else float32.
        query_engine_url: of a remote query engine; without it queries run on the input folder.
        query_signers: addresses of which one has to have signed a query; empty for any query.
    """

    input: Path
    output: Path
    working: Path
    dtype: str = "auto"
    query_engine_url: str | None = None
    query_signers: tuple[str, ...] = ()

    @property
    def uploads(self) -> Path:
        """Where uploaded files lie."""
        return self.working / "files"

    @classmethod
    def from_environment(cls) -> Self:
        """Return what these variables say.

        `INPUT_PATH`, `OUTPUT_PATH`, `WORKING_PATH`, `TRAINER_DTYPE`, `QUERY_ENGINE_URL` and
        `QUERY_SIGNERS`, the addresses separated by commas.
        """
        return cls(
            input=Path(os.environ.get("INPUT_PATH") or "/mnt/input"),
            output=Path(os.environ.get("OUTPUT_PATH") or "/mnt/output"),
            working=Path(os.environ.get("WORKING_PATH") or "/mnt/working"),
            dtype=os.environ.get("TRAINER_DTYPE") or "auto",
            query_engine_url=os.environ.get("QUERY_ENGINE_URL") or None,
            query_signers=tuple(
                signer.strip()
                for signer in os.environ.get("QUERY_SIGNERS", "").split(",")
                if signer.strip()
            ),
        )
