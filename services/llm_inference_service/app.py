"""The service's settings and its application factory."""

from typing import cast

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from llm_inference_service.adapter_uploads import add_adapter_uploads
from ml.serving.app import ServiceApp, create_service
from ml.serving.pages.chat import add_chat_page
from ml.serving.settings import Example, ServingSettings


class Settings(ServingSettings):
    """`FLASK_LLM_*`, as in the service's document."""

    model_config = SettingsConfigDict(env_prefix="FLASK_LLM_")

    examples = (
        Example(
            "FLASK_LLM_WORKFLOW_POSITIONAL_ARGS",
            '["SmolLM2-135M-Instruct"]',
            "The embedded model, which python -m ml.models.embedded_llm installs:",
        ),
        Example(
            "FLASK_LLM_WORKFLOW_POSITIONAL_ARGS",
            '["HuggingFaceTB/SmolLM2-135M-Instruct"]',
            "A model of the Hugging Face hub instead:",
        ),
        Example(
            "FLASK_LLM_WORKFLOW_KW_ARGS",
            '{"max_new_tokens": 64}',
            "See LLMInferenceWorkflow in the README:",
        ),
        Example(
            "FLASK_LLM_WORKFLOW_KW_ARGS",
            '{"engine": "transformers", "max_new_tokens": 64}',
            "In bfloat16, by transformers, instead of in 8 bits by OpenVINO:",
        ),
        Example("MODELS_PATH", "", "Where the embedded model lies (~/.cache/infernet-ml-services)"),
    )

    workflow_class: str = "ml.workflows.inference.llm_inference_workflow.LLMInferenceWorkflow"
    max_adapter_bytes: int = Field(
        default=0,
        ge=0,
        description="Largest zip of an adapter that clients may put into adapters_path; 0: none",
    )


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    app = create_service("llm_inference_service", Settings)
    add_chat_page(app)
    add_adapter_uploads(app, cast(Settings, app.settings).max_adapter_bytes)
    return app
