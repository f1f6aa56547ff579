"""Serves a language model: `POST /service_output` runs an `LLMInferenceWorkflow`."""

from llm_inference_service.app import create_app

__all__ = ["create_app"]
