"""The service's settings and its application factory."""

from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import Example, ServingSettings


class Settings(ServingSettings):
    """`TGI_INF_*`, as in the service's document."""

    model_config = SettingsConfigDict(env_prefix="TGI_INF_")

    examples = (
        Example(
            "TGI_INF_WORKFLOW_POSITIONAL_ARGS",
            '["http://127.0.0.1:8080", 30]',
            "The TGI server's address, and how many seconds a connection may take:",
        ),
        Example(
            "TGI_INF_WORKFLOW_KW_ARGS",
            '{"retry_params": {"tries": 3, "delay": 1, "backoff": 2, "max_delay": 10,'
            ' "jitter": [0.5, 1.5]}, "max_new_tokens": 30, "temperature": 0.01}',
            "How often it is tried, and TGI's generation parameters:",
        ),
    )

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
