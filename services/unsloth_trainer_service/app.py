"""The service's settings and its application factory."""

from __future__ import annotations

from typing import Any, cast

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ml.addresses import PageAddress, WebAddress
from ml.finetuning.settings import PREFIX, TrainerSettings
from ml.serving.app import ServiceApp, create_service
from ml.serving.pages.chat import add_chat_page
from ml.serving.settings import Example, ServingSettings
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.dashboard import add_dashboard
from unsloth_trainer_service.datasets import add_datasets
from unsloth_trainer_service.feedback import add_feedback
from unsloth_trainer_service.finetune import add_finetune
from unsloth_trainer_service.inference import add_inference
from unsloth_trainer_service.models_page import add_models_page
from unsloth_trainer_service.new_run import add_new_run
from unsloth_trainer_service.openai_files import add_files
from unsloth_trainer_service.openai_jobs import add_fine_tuning_jobs
from unsloth_trainer_service.openai_models import add_models
from unsloth_trainer_service.run_files import add_run_files
from unsloth_trainer_service.serve import LLMService, add_serve
from unsloth_trainer_service.train import add_train


class Settings(TrainerSettings, ServingSettings):
    """`TRAINER_*`; the names of the documents stay without the prefix."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, populate_by_name=False)

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
    dashboard_url: PageAddress | None = Field(
        default=None, description="Where clients see the dashboard; /dashboard by default"
    )
    dashboard_port: int = Field(
        default=5000, ge=0, le=65535, description="A port of --bind on which / is the dashboard"
    )

    serve_url: WebAddress | None = Field(
        default=None, description="Of the LLM service that tuned models are handed to"
    )
    serve_key: SecretStr | None = Field(
        default=None, description="A key of that service, which takes adapters by MAX_ADAPTER_BYTES"
    )

    def workflow_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the workflow class."""
        return {**self.job_arguments(), **self.workflow_kw_args}


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    app = create_service("unsloth_trainer_service", Settings)
    from ml.serving.job_metrics import JobMetrics  # reads the environment set meanwhile

    workflow = cast(UnslothTrainerWorkflow, app.workflow)
    app.metrics.sources.append(JobMetrics(lambda: workflow.jobs))
    add_train(app, workflow)
    add_finetune(app, workflow)
    add_run_files(app, workflow)
    add_datasets(app, workflow)
    add_inference(app, workflow)
    add_files(app, workflow)
    add_fine_tuning_jobs(app, workflow)
    add_models(app, workflow)
    add_feedback(app, workflow)
    settings = cast(Settings, app.settings)
    url = settings.serve_url
    add_serve(app, workflow, None if url is None else LLMService(url, settings.serve_key))
    add_dashboard(app, settings)
    add_models_page(app, workflow, serves=url is not None)
    add_new_run(app, workflow)
    add_chat_page(app, keeps_feedback=True)
    return app
