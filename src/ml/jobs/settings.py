"""What jobs run on, as the settings of every service that has jobs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ml.errors import ConfigurationError, UnprocessableInput
from ml.jobs.executors.choice import EXECUTORS, require_executor
from ml.jobs.resources import Resources

__all__ = ["GraceSeconds", "JobSettings"]


def _database_address(value: SecretStr) -> SecretStr:
    try:
        from ml.jobs.database import normal_url  # brings SQLAlchemy, which few settings need
    except ModuleNotFoundError:
        return value  # that it is missing is told of the workflow's class
    try:
        normal_url(value.get_secret_value())
    except ConfigurationError as error:  # does not repeat the address: a password is in it
        raise ValueError(str(error)) from None
    return value


def _executor(name: str) -> str:
    try:
        return require_executor(name)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


def _cluster_address(value: str) -> str:
    try:
        TypeAdapter(HttpUrl).validate_python(value)
    except ValidationError:
        raise ValueError("give an address such as http://ray-head:8265") from None
    return value


GraceSeconds = Annotated[
    float,
    Field(gt=0, le=50, description="For a job to save when it is stopped, then it is killed"),
]


class JobSettings(BaseModel):
    """The fields that the settings of services and the arguments of their workflows inherit."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    database_url: Annotated[SecretStr, AfterValidator(_database_address)] | None = Field(
        default=None, description="PostgreSQL for the jobs; SQLite under WORKING_PATH by default"
    )
    job_slots: int = Field(
        default=1,
        ge=1,
        description="Jobs that run at once on a host, or on the cluster; the others wait in order",
    )
    grace_seconds: GraceSeconds = 10
    resume_interrupted: bool = Field(
        default=False, description="Queue interrupted jobs again by itself"
    )
    executor: Annotated[str, AfterValidator(_executor)] = Field(
        default="local",
        description="What runs the jobs: local, in processes of this host; ray, on a Ray cluster",
    )
    ray_address: Annotated[str, AfterValidator(_cluster_address)] | None = Field(
        default=None, validate_default=True, description="Of the Ray cluster's dashboard"
    )
    ray_token: SecretStr | None = Field(
        default=None, validate_default=True, description="The Ray cluster's RAY_AUTH_TOKEN"
    )
    job_cpus: float | None = Field(
        default=None, gt=0, description="Processors for each job, where the executor places jobs"
    )
    job_gpus: float | None = Field(
        default=None, ge=0, description="GPUs for each job, where the executor places jobs"
    )
    job_memory_bytes: int | None = Field(
        default=None, ge=1, description="Memory for each job, where the executor places jobs"
    )
    lost_seconds: float = Field(
        default=60,
        ge=5,
        le=1_000_000,
        description="Without a sign of life, after which a job on another host is interrupted",
    )

    @field_validator("executor")
    @classmethod
    def _finds_its_store(cls, executor: str, info: ValidationInfo) -> str:
        database_url: SecretStr | None = info.data.get("database_url")
        is_server = database_url is not None and database_url.get_secret_value()[:6] != "sqlite"
        if EXECUTORS[executor].is_elsewhere and "database_url" in info.data and not is_server:
            raise ValueError(
                f"{executor!r} runs jobs on other hosts, which cannot write into a SQLite file; "
                "give a PostgreSQL as the database's URL"
            )
        return executor

    @field_validator("ray_address", "ray_token")
    @classmethod
    def _is_not_needed(cls, value: Any, info: ValidationInfo) -> Any:
        executor = info.data.get("executor")
        if value is None and executor and info.field_name in EXECUTORS[executor].needs:
            raise ValueError(f"executor {executor!r} needs it")
        return value

    @field_validator("job_cpus", "job_gpus", "job_memory_bytes")
    @classmethod
    def _is_heeded(cls, value: float | None, info: ValidationInfo) -> float | None:
        executor = info.data.get("executor")
        if value is not None and executor and not EXECUTORS[executor].heeds_resources:
            raise ValueError(f"executor {executor!r} reserves nothing for a job; leave it out")
        return value

    @property
    def heeds_resources(self) -> bool:
        """Whether a job gets what its request wishes for."""
        return EXECUTORS[self.executor].heeds_resources

    def require_heeded(self, wished: Resources | None) -> None:
        """Raise `UnprocessableInput` for wishes of a request that no job here gets."""
        if wished is not None and not self.heeds_resources:
            raise UnprocessableInput(
                "resources: the jobs of this service share its host, none has a part of its own; "
                "leave it out"
            )

    def job_arguments(self) -> dict[str, Any]:
        """Return these fields alone, as the keyword arguments of a workflow that has jobs."""
        return {name: getattr(self, name) for name in JobSettings.model_fields}

    @property
    def resources(self) -> Resources:
        """What a job gets that wishes for nothing."""
        return Resources(cpus=self.job_cpus, gpus=self.job_gpus, memory_bytes=self.job_memory_bytes)

    @property
    def store_url(self) -> str | None:
        """The address of the job store, if it is not in the working folder."""
        return self.database_url.get_secret_value() if self.database_url is not None else None
