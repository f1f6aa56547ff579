"""The addresses of Text Generation Inference's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart_schema import document_response

from ml.generation.sampling_options import MOST_ANSWERS, MOST_STOP_STRINGS
from ml.json_text import JsonObject
from ml.serving.endpoint import add_endpoint
from ml.serving.tgi.answers import Generated, GeneratedEither, GeneratedEvents, Information
from ml.serving.tgi.endpoints import Generate, GenerateEither, GenerateStream
from ml.serving.tgi.replies import error_reply
from ml.serving.tgi.requests import GenerateRequest

if TYPE_CHECKING:
    from ml.generation.language_model import LanguageModel
    from ml.serving.app import ServiceApp

__all__ = ["add_tgi"]


def add_tgi(app: ServiceApp, language_model: LanguageModel) -> None:
    """Register them on an application."""
    in_thread = app.workflow.in_thread
    for path in ("/info", "/generate", "/generate_stream"):
        app.error_forms[path] = error_reply
    add_endpoint(
        app,
        "/generate",
        Generate(language_model, in_thread),
        GenerateRequest,
        "Go on with a text.",
        Generated,
    )
    add_endpoint(
        app,
        "/generate_stream",
        GenerateStream(language_model, in_thread),
        GenerateRequest,
        "Go on with a text, as server-sent events.",
        GeneratedEvents,
    )
    add_endpoint(
        app,
        "/",
        GenerateEither(language_model, in_thread),
        GenerateRequest,
        "Go on with a text; with `stream`, as server-sent events.",
        GeneratedEither,
    )

    @app.get("/info")
    @document_response(Information)
    async def info() -> JsonObject:
        """Return what is served, and its limits."""
        return {
            "model_id": language_model.served_name,
            "model_sha": None,
            "model_dtype": language_model.dtype,
            "model_device_type": language_model.device_type,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": app.settings.max_in_flight,
            "max_best_of": MOST_ANSWERS,
            "max_stop_sequences": MOST_STOP_STRINGS,
            "max_input_tokens": language_model.max_length - 1,
            "max_total_tokens": language_model.max_length,
            "max_client_batch_size": 1,
            "router": app.name,
            "version": app.service_version,
            "sha": None,
            "docker_label": None,
        }
