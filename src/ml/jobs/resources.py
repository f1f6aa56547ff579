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
    service's settings have it. They are each worker's, where its request has `num_workers`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpus: float | None = Field(default=None, gt=0, description="Processors, or a part of one")
    gpus: float | None = Field(default=None, ge=0, description="GPUs, or a part of one")
    memory_bytes: int | None = Field(default=None, ge=1, description="Memory")

    @classmethod
    def of(cls, job: Job, otherwise: Resources) -> Self:
        """Return what a job wishes for, and what it gets where it wishes for nothing.

        It is what all its workers need together, on one host; a processor for each at least.
        """
        wished = cls.model_validate(job.request.get("resources") or {})
        each = cls(**otherwise.model_dump() | wished.model_dump(exclude_none=True))
        workers = int(job.request.get("num_workers") or 1)
        if workers == 1:
            return each
        together = each.model_copy(update={"cpus": each.cpus or 1.0}).model_dump(exclude_none=True)
        return cls(**{name: workers * amount for name, amount in together.items()})
