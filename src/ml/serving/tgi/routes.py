"""The addresses of Text Generation Inference's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Response
from quart_schema import document_request

from ml.errors import NotFound
from ml.serving.tgi.endpoints import Generate, GenerateEither, GenerateStream
from ml.serving.tgi.replies import error_reply
from ml.serving.tgi.requests import GenerateRequest

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow

__all__ = ["add_tgi"]


def add_tgi(app: ServiceApp, workflow: LLMInferenceWorkflow) -> None:
    """Register them on an application."""
    for path in ("/info", "/generate", "/generate_stream"):
        app.error_forms[path] = error_reply
    app.endpoints["/generate"] = Generate(workflow)
    app.endpoints["/generate_stream"] = GenerateStream(workflow)
    app.endpoints["/"] = GenerateEither(workflow)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """Return what is served, and its limits."""
        return {
            "model_id": workflow.served_name,
            "model_sha": None,
            "model_dtype": workflow.dtype,
            "model_device_type": workflow.device_type,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": app.settings.max_in_flight,
            "max_best_of": 1,
            "max_stop_sequences": 16,
            "max_input_tokens": workflow.max_length - 1,
            "max_total_tokens": workflow.max_length,
            "max_client_batch_size": 1,
            "router": app.name,
            "version": app.service_version,
            "sha": None,
            "docker_label": None,
        }

    @app.post("/generate")
    @document_request(GenerateRequest)
    async def generate() -> Response:
        """Go on with a text."""
        raise NotFound  # as written here, the address is answered by ml.serving.entry

    @app.post("/generate_stream")
    @document_request(GenerateRequest)
    async def generate_stream() -> Response:
        """Go on with a text, as server-sent events."""
        raise NotFound  # as written here, the address is answered by ml.serving.entry

    @app.post("/")
    @document_request(GenerateRequest)
    async def generate_either() -> Response:
        """Go on with a text; with `stream`, as server-sent events."""
        raise NotFound  # as written here, the address is answered by ml.serving.entry
