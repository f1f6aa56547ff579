"""The service's settings and its application factory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from ml.jobs.settings import GraceSeconds, JobSettings
from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import Example, ServingSettings, split_list
from ml.workflows.addresses import PageAddress, SignerAddress, WebAddress
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.dashboard import add_dashboard
from unsloth_trainer_service.datasets import add_datasets
from unsloth_trainer_service.finetune import add_finetune
from unsloth_trainer_service.inference import add_inference
from unsloth_trainer_service.openai_files import add_files
from unsloth_trainer_service.openai_jobs import add_fine_tuning_jobs
from unsloth_trainer_service.openai_models import add_models
from unsloth_trainer_service.train import add_train

Names = Annotated[list[str], NoDecode, BeforeValidator(split_list)]


class Settings(JobSettings, ServingSettings):
    """`TRAINER_*`; the names of the documents stay without the prefix."""

    model_config = SettingsConfigDict(env_prefix="TRAINER_")

    examples = (
        Example(
            "TRAINER_WORKFLOW_POSITIONAL_ARGS",
            '["SmolLM2-135M-Instruct"]',
            "The base of the tuned models that answer here; python -m ml.models.embedded_llm"
            " installs this one:",
        ),
        Example("PORT", "8000", "Where serve listens without --bind"),
        Example("MODELS_PATH", "", "Where the embedded model lies (~/.cache/infernet-ml-services)"),
    )

    workflow_base = UnslothTrainerWorkflow
    workflow_class: str = "ml.workflows.training.unsloth_trainer_workflow.UnslothTrainerWorkflow"
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
    query_engine_url: WebAddress | None = Field(
        default=None,
        validation_alias="QUERY_ENGINE_URL",
        description="Of a remote Query Engine; the embedded one by default",
    )
    query_signers: Annotated[list[SignerAddress], NoDecode, BeforeValidator(split_list)] = Field(
        default=[],
        validation_alias="QUERY_SIGNERS",
        description="Ethereum addresses whose signature a query needs; none: no signature",
    )
    grace_seconds: GraceSeconds = 45
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="Of the weights while TRL trains; bfloat16 where it is fast"
    )
    allowed_models: Names = Field(default=[], description="Models that may be tuned; none: all")
    max_upload_bytes: int = Field(
        default=512 * 2**20, ge=1, description="Largest upload of training data"
    )
    dashboard_url: PageAddress | None = Field(
        default=None, description="Where clients see the dashboard; /dashboard by default"
    )
    dashboard_port: int = Field(
        default=5000, ge=0, le=65535, description="A port of --bind on which / is the dashboard"
    )

    def workflow_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the workflow class."""
        own = {
            "input_path": self.input_path,
            "output_path": self.output_path,
            "working_path": self.working_path,
            "query_engine_url": self.query_engine_url,
            "query_signers": self.query_signers,
            "allowed_models": self.allowed_models,
            "dtype": self.dtype,
        }
        return {**self.job_arguments(), **own, **self.workflow_kw_args}


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    app = create_service("unsloth_trainer_service", Settings)
    workflow = cast(UnslothTrainerWorkflow, app.workflow)
    add_train(app, workflow)
    add_finetune(app, workflow)
    add_datasets(app, workflow)
    add_inference(app, workflow)
    add_files(app, workflow)
    add_fine_tuning_jobs(app, workflow)
    add_models(app, workflow)
    add_dashboard(app, cast(Settings, app.settings))
    return app
