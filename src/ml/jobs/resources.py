"""What a job's process needs of a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from ml.jobs.job import Job

__all__ = ["Resources"]


class Resources(BaseModel):
    """Processors, GPUs and memory; None for what the executor gives by itself.

    A job may wish for them in the `resources` of its request; what it does not name is as the
    service's settings have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpus: float | None = Field(default=None, gt=0, description="Processors, or a part of one")
    gpus: float | None = Field(default=None, ge=0, description="GPUs, or a part of one")
    memory_bytes: int | None = Field(default=None, ge=1, description="Memory")

    @classmethod
    def of(cls, job: Job, otherwise: Resources) -> Self:
        """Return what a job wishes for, and what it gets where it wishes for nothing."""
        wished = cls.model_validate(job.request.get("resources") or {})
        return cls(**otherwise.model_dump() | wished.model_dump(exclude_none=True))
