"""The service's settings and its application factory."""

from pydantic_settings import SettingsConfigDict

from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import ServingSettings


class Settings(ServingSettings):
    """`FLASK_LLM_*`, as in the service's document."""

    model_config = SettingsConfigDict(env_prefix="FLASK_LLM_")

    workflow_class: str = "ml.workflows.inference.llm_inference_workflow.LLMInferenceWorkflow"


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    return create_service("llm_inference_service", Settings)
