"""What the trainer's addresses answer, for the API's document alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from ml.jobs.job import JobState
from ml.serving.openai.answers import ListPage


class Queued(BaseModel):
    """The job that will train."""

    job_id: str
    status: JobState
    message: str
    dashboard_url: str
    data: dict[str, Any] | None = Field(description="What was found in the data set's first rows")


class JobLogs(BaseModel):
    """Entries of a job's log, oldest first."""

    job_id: str
    logs: list[dict[str, Any]]


class RunFileRecord(BaseModel):
    """A file that a run has written or made."""

    name: str
    kind: str
    bytes: int
    sha256: str
    url: str


class RunFiles(BaseModel):
    """The files of a job."""

    job_id: str
    files: list[RunFileRecord]


class ModelFiles(BaseModel):
    """The files of a tuned model."""

    model: str
    files: list[RunFileRecord]


class ModelRecord(BaseModel):
    """A tuned model."""

    name: str
    base_model: str | None
    job_id: str | None = Field(description="The run that made it, null for one placed by hand")
    created_at: str | None
    bytes: int
    loaded: bool | None = Field(description="Whether it is in memory, null where nothing answers")


class ModelPage(BaseModel):
    """Some of the tuned models."""

    models: list[ModelRecord]
    total: int
    has_more: bool


class Served(BaseModel):
    """A tuned model that was handed over."""

    id: str
    object: Literal["model"]
    served: bool


class FileEntry(BaseModel):
    """A file that was uploaded."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int = Field(description="Seconds since 1970")
    filename: str
    purpose: str


class FileList(ListPage):
    """Files that were uploaded."""

    data: list[FileEntry]


class InputFileRecord(BaseModel):
    """A file under INPUT_PATH."""

    name: str
    bytes: int


class Datasets(BaseModel):
    """The files that can be trained on."""

    files: list[InputFileRecord]
    uploads: list[FileEntry]
    whole: bool = Field(description="Whether these are all")


class FormatRecord(BaseModel):
    """A form that training data may have."""

    name: str
    description: str
    columns: dict[str, list[str]]
    sample: dict[str, Any]


class Formats(BaseModel):
    """The forms that training data may have."""

    formats: list[FormatRecord]


class TunedModel(BaseModel):
    """A tuned model that can be asked."""

    model_path: str
    name: str


class InferenceModels(BaseModel):
    """The tuned models that can be asked, and their base."""

    base_model: str | None
    models: list[TunedModel]


class TuningJob(BaseModel):
    """A job, as OpenAI's clients know it."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int = Field(description="Seconds since 1970")
    finished_at: int | None
    estimated_finish: int | None
    model: str | None
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled", "paused"]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    seed: int | None
    error: dict[str, Any] | None
    integrations: list[Any]
    metadata: dict[str, str] | None


class TuningJobList(ListPage):
    """Jobs, newest first."""

    data: list[TuningJob]


class TuningEvent(BaseModel):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: str
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class TuningEventList(ListPage):
    """Events of a job, newest first."""

    data: list[TuningEvent]


class TuningCheckpoint(BaseModel):
    """A tuned model, or a checkpoint that is kept."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str | None
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float | None]


class TuningCheckpointList(ListPage):
    """The tuned model of a job, and its checkpoints, newest first."""

    data: list[TuningCheckpoint]


class WhereDashboard(BaseModel):
    """Where the dashboard is."""

    dashboard_url: str
    jobs_url: str


class ModelsToTune(BaseModel):
    """The names that `model_name` may have here."""

    base: list[str]
    tuned: list[str]
