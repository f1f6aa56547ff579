"""Passes texts to a TGI server: `POST /service_output` runs a `TGIClientInferenceWorkflow`."""

from tgi_client_inference_service.app import create_app

__all__ = ["create_app"]
