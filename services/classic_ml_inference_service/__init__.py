"""Serves classic models: `POST /service_output` runs a `BaseClassicMLInferenceWorkflow`."""

from classic_ml_inference_service.app import create_app

__all__ = ["create_app"]
