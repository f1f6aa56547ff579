"""The service's settings and its application factory."""

from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ezkl_proof_service.artifacts import add_artifacts
from ezkl_proof_service.proofs import add_proofs
from ml.jobs.settings import JobSettings
from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import Example, ServingSettings
from ml.workflows.loading import load_workflow_class
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow


class Settings(JobSettings, ServingSettings):
    """`EZKL_*`."""

    model_config = SettingsConfigDict(env_prefix="EZKL_")

    examples = (
        Example(
            "EZKL_WORKFLOW_POSITIONAL_ARGS",
            '["artifacts/iris"]',
            "Folders that python -m ml.proving.artifacts build made; the first is the default:",
        ),
        Example(
            "EZKL_WORKFLOW_KW_ARGS",
            '{"proof_seconds": 600}',
            "How long a proof that is no job may take:",
        ),
        Example(
            "WORKING_PATH", "working", "A folder that this user can make (default /mnt/working):"
        ),
    )

    workflow_class: str = "ml.workflows.proof.ezkl_proof_workflow.EZKLProofWorkflow"
    repo_path: str | None = Field(
        default=None, description="ezkl's own variable; the proving process has a folder of its own"
    )
    working_path: Path = Field(
        default=Path("/mnt/working"),
        validation_alias="WORKING_PATH",
        description="Proofs that are jobs, with their inputs",
    )

    def workflow_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the workflow class."""
        if not issubclass(load_workflow_class(self.workflow_class), EZKLProofWorkflow):
            return self.workflow_kw_args
        own = {"working_path": self.working_path}
        return {**self.job_arguments(), **own, **self.workflow_kw_args}


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    app = create_service("ezkl_proof_service", Settings)
    if isinstance(app.workflow, EZKLProofWorkflow):
        from ml.serving.proof_metrics import ProofMetrics  # reads the environment set meanwhile

        app.workflow.observer = ProofMetrics(app.metrics.registry).proved
        add_artifacts(app, app.workflow)
        add_proofs(app, app.workflow)
    return app
