"""The service's settings and its application factory."""

from pydantic_settings import SettingsConfigDict

from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import ServingSettings


class Settings(ServingSettings):
    """`CLASSIC_INF_*`; TorchInferenceWorkflow itself reads TORCH_MODEL_FILE_NAME and USE_JIT."""

    model_config = SettingsConfigDict(env_prefix="CLASSIC_INF_")

    workflow_class: str = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    return create_service("classic_ml_inference_service", Settings)
