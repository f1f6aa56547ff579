"""The service's settings and its application factory."""

from pydantic_settings import SettingsConfigDict

from ml.serving.app import ServiceApp, create_service
from ml.serving.settings import Example, ServingSettings


class Settings(ServingSettings):
    """`CLASSIC_INF_*`; TorchInferenceWorkflow itself reads TORCH_MODEL_FILE_NAME and USE_JIT."""

    model_config = SettingsConfigDict(env_prefix="CLASSIC_INF_")

    examples = (
        Example(
            "CLASSIC_INF_WORKFLOW_KW_ARGS",
            '{"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}',
            "A classifier that ships with the project: 69 features of double precision, 2 classes:",
        ),
        Example(
            "CLASSIC_INF_WORKFLOW_KW_ARGS",
            '{"model_source": "HUGGINGFACE_HUB",'
            ' "model_args": {"repo_id": "owner/name", "filename": "model.torch"}}',
            "A model of the Hugging Face hub instead:",
        ),
        Example(
            "CLASSIC_INF_WORKFLOW_KW_ARGS",
            '{"model_source": "LOCAL", "model_args": {"path": "/models/model.torch"}}',
            "A file of your own instead:",
        ),
        Example(
            "CLASSIC_INF_WORKFLOW_KW_ARGS",
            '{"path": "/models/model.onnx"}',
            "A file of another library, for ModelFileInferenceWorkflow (see the README):",
        ),
        Example(
            "CLASSIC_INF_WORKFLOW_KW_ARGS",
            '{"model_source": "BUILT_IN", "model_args": {"name": "iris"},'
            ' "proof_artifact": "artifacts/iris"}',
            "A model whose answers can be proved, with an artifact of it (see the README):",
        ),
        Example(
            "CLASSIC_INF_WORKFLOW_KW_ARGS",
            '{"models_folder": "/models", "default_model": "houses", "max_loaded_models": 10}',
            "Several models, for ModelsInferenceWorkflow (see the README):",
        ),
        Example(
            "TORCH_MODEL_FILE_NAME", "model.torch", "A model's file, where no argument names it"
        ),
        Example("USE_JIT", "False", "Whether models are TorchScript, where no argument says so"),
    )

    workflow_class: str = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"


def create_app() -> ServiceApp:
    """Return the application, configured by the environment."""
    return create_service("classic_ml_inference_service", Settings)
