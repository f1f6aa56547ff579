"""The service's settings and its application factory."""

from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import ServingSettings


class Settings(ServingSettings):
    """`TGI_INF_*`, as in the service's document."""

    model_config = SettingsConfigDict(env_prefix="TGI_INF_")

    workflow_class: str = (
        "ml.workflows.inference.tgi_client_inference_workflow.TGIClientInferenceWorkflow"
    )
    token: SecretStr | None = Field(
        default=None, description="Sent to the model server as a bearer token"
    )

    def workflow_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the workflow class, the token among them."""
        if self.token is None:
            return self.workflow_kw_args
        return {"token": self.token.get_secret_value(), **self.workflow_kw_args}


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    return create_service("tgi_client_inference_service", Settings)
