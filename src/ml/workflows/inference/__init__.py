"""Workflows that answer a request with a model."""
