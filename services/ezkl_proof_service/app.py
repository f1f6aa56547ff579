"""The service's settings and its application factory."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ezkl_proof_service.artifacts import add_artifacts
from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import ServingSettings
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow


class Settings(ServingSettings):
    """`EZKL_*`."""

    model_config = SettingsConfigDict(env_prefix="EZKL_")

    workflow_class: str = "ml.workflows.proof.ezkl_proof_workflow.EZKLProofWorkflow"
    repo_path: str | None = Field(
        default=None, description="ezkl's own variable; the proving process has a folder of its own"
    )


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    app = create_service("ezkl_proof_service", Settings)
    if isinstance(app.workflow, EZKLProofWorkflow):
        add_artifacts(app, app.workflow)
    return app
