"""Workflows that train models."""
