"""The trainer's settings: where it reads and writes, whom it asks, and what bounds it.

To add one: give it a field here. The service reads it from its environment, the workflow takes it
as an argument, and a job's process has it again by `from_environment`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from ml.addresses import SignerAddress, WebAddress
from ml.finetuning.trackers import Tracker
from ml.jobs.remote_files import files_address_fault
from ml.jobs.settings import GraceSeconds, JobSettings
from ml.setting_text import split_list

__all__ = ["PREFIX", "TrainerSettings"]

#: How the names of variables begin that no document has without it.
PREFIX = "TRAINER_"


def _files_address(value: str) -> str:
    if fault := files_address_fault(value):  # does not repeat the address
        raise ValueError(fault)
    return value.rstrip("/")


class TrainerSettings(JobSettings):
    """Places and limits of fine-tuning. Both names of a field are taken, its own and its alias."""

    model_config = ConfigDict(populate_by_name=True)

    input_path: Path = Field(
        default=Path("/mnt/input"), validation_alias="INPUT_PATH", description="Training data"
    )
    output_path: Path = Field(
        default=Path("/mnt/output"), validation_alias="OUTPUT_PATH", description="Tuned models"
    )
    working_path: Path = Field(
        default=Path("/mnt/working"),
        validation_alias="WORKING_PATH",
        description="Jobs, their checkpoints and logs, uploaded files",
    )
    files_url: Annotated[str, AfterValidator(_files_address)] | None = Field(
        default=None,
        description="Such as s3://bucket/folder, where hosts that share no folder have their files:"
        " in place of INPUT_PATH and OUTPUT_PATH; WORKING_PATH has copies",
    )
    copies_bytes: int = Field(
        default=50 * 2**30,
        ge=1,
        description="Of files under FILES_URL that a host keeps; a data set may have as many",
    )
    query_engine_url: WebAddress | None = Field(
        default=None,
        validation_alias="QUERY_ENGINE_URL",
        description="Of a remote Query Engine; the embedded one by default",
    )
    query_signers: Annotated[tuple[SignerAddress, ...], NoDecode, BeforeValidator(split_list)] = (
        Field(
            default=(),
            validation_alias="QUERY_SIGNERS",
            description="Ethereum addresses whose signature a query needs; none: no signature",
        )
    )
    grace_seconds: GraceSeconds = 45
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="Of the weights while TRL trains; bfloat16 where it is fast"
    )
    allowed_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)] = Field(
        default=(), description="Models that may be tuned; none: all"
    )
    report_to: Annotated[tuple[Tracker, ...], NoDecode, BeforeValidator(split_list)] = Field(
        default=(),
        description="Trackers of runs that name none: tensorboard, trackio, mlflow, wandb",
    )
    max_upload_bytes: int = Field(
        default=512 * 2**20, ge=1, description="Largest upload of training data"
    )

    @property
    def data_path(self) -> Path:
        """Where training data lies, or its copies."""
        return self.input_path if self.files_url is None else self._copies("input")

    @property
    def models_path(self) -> Path:
        """Where tuned models lie, or their copies."""
        return self.output_path if self.files_url is None else self._copies("output")

    @property
    def uploads_path(self) -> Path:
        """Where uploaded files lie, or their copies."""
        return self.working_path / "files" if self.files_url is None else self._copies("files")

    @property
    def queries_path(self) -> Path:
        """Where the results of queries lie, or their copies."""
        return self.working_path / "queries" if self.files_url is None else self._copies("queries")

    def _copies(self, place: str) -> Path:
        return self.working_path / "copies" / place

    def job_arguments(self) -> dict[str, Any]:
        """Return these fields alone, as the keyword arguments of the trainer's workflow."""
        return {name: getattr(self, name) for name in TrainerSettings.model_fields}

    def environment(self) -> dict[str, str]:
        """Return the variables by which a job's process has the same settings.

        Those of `JobSettings` are none of its business: its `Assignment` has what it needs.
        """
        return {variable: _text(getattr(self, name)) for name, variable in _variables().items()}

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings in these variables; one that is empty or missing has its default."""
        found = {name: os.environ.get(variable) for name, variable in _variables().items()}
        return cls(**{name: text for name, text in found.items() if text})


def _variables() -> dict[str, str]:
    """Return the variable of each field that a job's process has."""
    return {
        name: str(field.validation_alias or f"{PREFIX}{name.upper()}")
        for name, field in TrainerSettings.model_fields.items()
        if name not in JobSettings.model_fields
    }


def _text(value: Any) -> str:
    """Return a value as the environment has it."""
    if isinstance(value, Path):
        return str(value.absolute())  # a job works in a folder of its own
    if isinstance(value, tuple):
        return json.dumps(value)
    return "" if value is None else str(value)
