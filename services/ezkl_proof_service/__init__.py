"""Proves its answers: `POST /service_output` runs an `EZKLProofWorkflow`."""

from ezkl_proof_service.app import create_app

__all__ = ["create_app"]
